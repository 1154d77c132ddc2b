"""Receptive fields: gradients fill the theoretical squares, and the effective field is smaller."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import DenseNet, InputError, ResNet, save_pretrained, summarize
from flax_resnet.lab import receptive
from flax_resnet.lab.weights import random_variables
from flax_resnet.models.variants import VARIANTS

CIFAR = dict(stage_sizes=(1, 1), widths=(8, 8), stem="cifar", num_classes=2, image_size=8)


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", CIFAR)


@pytest.mark.parametrize(
    "model", [ResNet(**CIFAR), DenseNet((1, 1), 8, 0, stem="cifar", num_classes=2, image_size=8)]
)
def test_the_gradient_is_nonzero_exactly_in_the_theoretical_square(model: Any) -> None:
    size = receptive.fitting_size(model)
    images = receptive.noise(jax.random.key(0), model, 2, size)
    variables = random_variables(model, jax.random.key(1), images)
    measure = jax.jit(lambda *arrays: receptive.central_gradients(model, *arrays))
    gradients = measure(variables, images, jax.random.key(2))
    parts = {part.name: part.receptive_field for part in summarize(model, size)[:-1]}
    assert gradients.keys() == parts.keys()
    for name, field in parts.items():
        mass = np.asarray(gradients[name])
        side, middle = receptive.extent(mass)
        assert side == field
        rows, columns = (
            slice(round(at - side / 2 + 0.5), round(at + side / 2 + 0.5)) for at in middle
        )
        assert mass[rows, columns].all()
        assert np.count_nonzero(mass) == side**2


def test_a_square_holds_its_share() -> None:
    middle = np.array([4.0, 4.0])
    assert receptive.square(np.ones((9, 9)), middle, 0.999) == 9
    assert receptive.square(np.ones((9, 9)), middle, 25 / 81) == 5
    single = np.zeros((9, 9))
    single[4, 4] = 1
    assert receptive.square(single, middle, 0.95) == 1
    between = np.zeros((8, 8))
    between[3:5, 3:5] = 1
    assert receptive.extent(between)[0] == receptive.square(between, np.array([3.5, 3.5]), 0.9) == 2


@pytest.mark.slow
@pytest.mark.usefixtures("row")
def test_shortcuts_do_not_change_the_theoretical_field() -> None:
    result = receptive.run(receptive.Settings(network="tiny", images=2, seeds=2))
    assert result.kinds == ("plain", "residual")
    assert (result.measured == result.theory).all()
    assert (result.effective <= result.theory).all()
    np.testing.assert_allclose(result.gradient.sum((1, 2)), 1)
    assert len(receptive.draw(result).axes) == 4  # with a color bar
    assert "measured fields equal the theoretical ones everywhere" in receptive.finding(result)


@pytest.mark.usefixtures("row")
def test_trained_weights_are_compared_with_random_ones(tmp_path: Path, init: Any) -> None:
    model = ResNet(**CIFAR)
    variables = init(model, jnp.ones((1, 8, 8, 3)))
    save_pretrained(model, variables, tmp_path / "saved", architecture="tiny")
    networks = receptive.compared_networks(receptive.Settings(weights=str(tmp_path / "saved")))
    assert [kind for kind, _, _ in networks] == ["random", "trained"]
    jax.tree.map(np.testing.assert_array_equal, networks[1][2], variables)


def test_the_finding_names_both_networks() -> None:
    sides = np.array([[[3, 9]], [[3, 6]]])
    result = receptive.Result(
        "tiny", ("plain", "residual"), ("stem", "layer1"), 0.95, np.array([3, 12]),
        np.array([[[3, 12]], [[3, 12]]]), sides, np.ones((2, 4, 4)),
    )  # fmt: skip
    assert receptive.finding(result) == (
        "The receptive field of layer1 of tiny is a square of 12 pixels; the measured fields equal "
        "the theoretical ones everywhere, and 95% of the gradient is in a square of 9 pixels, 56% "
        "of the area, in the plain network and of 6 pixels, 25% of the area, in the residual "
        "network."
    )


@pytest.mark.parametrize("settings", [{"share": 1.0}, {"images": 0}, {"seeds": 0}])
def test_settings_that_measure_nothing_are_refused(settings: Any) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        receptive.Settings(**settings)


@pytest.mark.usefixtures("row")
def test_images_that_cannot_hold_the_field_are_refused() -> None:
    with pytest.raises(InputError, match="image_size is 8; the largest field needs at least"):
        receptive.run(receptive.Settings(network="tiny", image_size=8))
