"""One network for an experiment: trained here, from a run, or from a folder of weights."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, ResNet, restore, save_pretrained, train
from flax_resnet.data import DataConfig
from flax_resnet.lab import weights
from flax_resnet.models.layers import Conv
from flax_resnet.models.variants import VARIANTS
from flax_resnet.steps.gradient import normalize
from flax_resnet.training.parsing import parse
from flax_resnet.weights import Preprocessing

ROW = dict(stage_sizes=(1,), widths=(8,), stem="cifar", image_size=8)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(VARIANTS, "tiny", ROW)
    data = dict(source="synthetic:10", batch_size=16, image_size=8, crop="none", flip=False)
    train(parse({"steps": 1, "model": {"name": "tiny"}, "data": data}), tmp_path / "run")
    return tmp_path / "run"


def test_digits_are_enlarged_unless_a_size_is_given() -> None:
    assert weights.OneNetwork().data_config().image_size == 32
    assert weights.OneNetwork(image_size=8).data_config().image_size == 8
    assert weights.OneNetwork(data="digits").data_config().image_size == 8


@pytest.mark.slow
def test_a_network_is_trained_here(tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    row = ROW | dict(stage_sizes=(2, 2), widths=(4, 4))
    monkeypatch.setitem(VARIANTS, "tiny", row)
    settings = weights.OneNetwork(network="tiny", stage_sizes=(1, 1), image_size=8, **tiny)
    trained = weights.obtain(settings)
    assert trained.model.stage_sizes == (1, 1)
    assert trained.name == "tiny cut to 1+1 blocks"
    assert trained.data == settings.data_config()
    assert trained.variables["batch_stats"]["bn1"]["mean"].any()  # no longer zero


@pytest.mark.slow
def test_a_run_brings_its_weights_and_its_data(run: Path) -> None:
    restored = restore(run)
    trained = weights.obtain(weights.OneNetwork(weights=str(run), test_split="test[:9]"))
    jax.tree.map(np.testing.assert_array_equal, trained.variables, restored.variables)
    own = restored.config.data
    assert (trained.data.source, trained.data.image_size) == ("synthetic:10", 8)
    assert (trained.data.mean, trained.data.test_split) == (own.mean, "test[:9]")
    other = weights.OneNetwork(weights=str(run), data="synthetic:7").data_config()
    assert other.source == "synthetic:7"


def test_weights_bring_their_preprocessing(run: Path, tmp_path: Path) -> None:
    restored, folder = restore(run), tmp_path / "saved"
    images = Preprocessing(8, 0.9, "bilinear", (0.4,) * 3, (0.2,) * 3)
    save_pretrained(
        restored.model, restored.variables, folder, architecture="tiny", preprocessing=images
    )
    settings = weights.OneNetwork(weights=str(folder), data="synthetic:10")
    config = settings.data_config()
    assert (config.source, config.channels, config.image_size) == ("synthetic:10", 3, 8)
    assert (config.mean, config.eval_crop) == (images.mean, 0.9)
    assert weights.obtain(settings).name == "saved"


def test_other_families_are_refused() -> None:
    with pytest.raises(InputError, match="the network is a Conv; expected"):
        weights.classifier(Conv(1, 1))


def test_several_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="change seed instead"):
        weights.OneNetwork(seeds=2)


def test_normalized_images_become_pixels_again() -> None:
    config = DataConfig(channels=3)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    images = normalize(jnp.asarray(pixels), config.mean, config.std)
    np.testing.assert_array_equal(weights.to_pixels(images, config), pixels)
    large = np.repeat(np.repeat(images, 56, axis=1), 56, axis=2)
    found = weights.to_pixels(large, config)
    np.testing.assert_array_equal(found, np.repeat(np.repeat(pixels, 28, axis=1), 28, axis=2))


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("text")
    for path in (tmp_path / "text.png", tmp_path / "none.png"):
        with pytest.raises(InputError, match=path.name):
            weights.read_images((str(path),), DataConfig())


def test_random_networks_have_the_statistics_of_their_images() -> None:
    model = ResNet(**ROW, num_classes=2)
    images = jax.random.normal(jax.random.key(0), (8, 16, 16, 3))
    variables = weights.random_variables(model, jax.random.key(1), images)
    trained, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(model.apply(variables, images), trained, rtol=0.01, atol=0.01)
