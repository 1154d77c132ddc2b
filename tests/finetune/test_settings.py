"""Settings chosen for a user's images and the weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import pytest
from flax import traverse_util

from flax_resnet import InputError, create_model, restore, save_pretrained, train
from flax_resnet.finetune.settings import (
    BALANCES,
    Counts,
    balance_of,
    finetune_config,
    fitting_batch,
)
from flax_resnet.models import variable_shapes
from flax_resnet.models.variables import selected
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.weights import Preprocessing

Config = Callable[..., Any]


@pytest.mark.parametrize(
    ("pictures", "wanted", "devices", "size"),
    [
        (2, None, 1, 2),
        (5, None, 8, 8),  # otherwise one device would have no image
        (60, None, 1, 8),
        (200, None, 1, 16),
        (200, None, 8, 16),
        (5_000, None, 1, 64),
        (60, 100, 1, 60),
        (60, 100, 8, 56),
        (60, 30, 8, 30),  # requested, although the trainer refuses it
    ],
)
def test_a_batch_is_no_larger_than_the_data_set(
    pictures: int, wanted: int | None, devices: int, size: int
) -> None:
    assert fitting_batch(pictures, wanted, devices) == size


def test_few_images_are_seen_more_often() -> None:
    few, many = (finetune_config("csv:x", Counts(n, 10), None) for n in (100, 10_000))
    assert (few.epochs, many.epochs) == (200, 30)
    assert (few.data.batch_size, many.data.batch_size) == (8, 64)


def test_random_weights_train_everything_at_the_networks_size() -> None:
    config = finetune_config("csv:x", Counts(100, 20), None, model="cifar_resnet20")
    assert (config.model.name, config.model.pretrained) == ("cifar_resnet20", None)
    assert (config.data.image_size, config.data.eval_crop) == (32, 1.0)
    assert (config.freeze, config.freeze_epochs, config.freeze_norms) == ("", None, None)
    assert finetune_config("csv:x", Counts(9, 9), None).model.name == "resnet18"


def test_given_settings_are_used() -> None:
    config = finetune_config(
        "csv:x", Counts(100, 20, 7), None,
        epochs=3, batch_size=50, image_size=96, rate=0.5, seed=7,
    )  # fmt: skip
    assert (config.epochs, config.seed, config.data.batch_size) == (3, 7, 50)
    assert (config.data.image_size, config.data.test_split) == (96, "test")
    assert (config.schedule.learning_rate, config.schedule.scale_for) == (0.5, None)


@pytest.mark.parametrize("balance", BALANCES)
def test_classes_are_balanced_in_one_place(balance: str) -> None:
    config = finetune_config("csv:x", Counts(100, 20), None, balance=balance)
    assert balance_of(config) == balance
    assert balance_of(finetune_config("csv:x", Counts(100, 20), None)) == "none"


def test_published_weights_determine_network_and_preprocessing() -> None:
    config = finetune_config("csv:x", Counts(200, 50), "timm/resnet50.a1_in1k")
    assert (config.model.name, config.model.pretrained) == ("resnet50", "timm/resnet50.a1_in1k")
    assert (config.data.image_size, config.data.interpolation) == (224, "bicubic")
    assert (config.epochs, config.freeze_epochs, config.freeze_norms) == (40, 4, ".*")


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        ("resnet18", {"fc"}),
        ("resnetv2_50", {"norm", "head"}),
        ("densenet121", {"features", "classifier"}),  # features.norm5
        ("highway10", {"fc"}),
    ],
)
def test_only_parts_after_the_last_stage_learn_first(name: str, behind: set[str]) -> None:
    pattern = finetune_config("csv:x", Counts(200, 50), "timm/resnet50.a1_in1k").freeze
    paths = traverse_util.flatten_dict(variable_shapes(create_model(name))["params"])
    assert {path[0] for path in paths if not selected(pattern, path)} == behind


def test_a_run_brings_the_arguments_of_its_network(tiny_config: Config, tmp_path: Path) -> None:
    mesh = data_mesh(jax.devices()[:1])
    train(tiny_config(steps=1, model__norm_group=4), tmp_path / "run", mesh=mesh)
    config = finetune_config("csv:x", Counts(20, 5), str(tmp_path / "run"))
    assert (config.model.name, config.model.arguments) == ("tiny", {"norm_group": 4})
    assert (config.model.num_classes, config.model.pretrained) == (None, str(tmp_path / "run"))
    assert (config.data.image_size, config.data.channels) == (8, 1)


@pytest.mark.slow
def test_a_saved_folder_brings_its_preprocessing(tiny_config: Config, tmp_path: Path) -> None:
    mesh = data_mesh(jax.devices()[:1])
    train(tiny_config(steps=1), tmp_path / "run", mesh=mesh)
    run = restore(tmp_path / "run")
    images = Preprocessing(12, 1.0, "bilinear", (0.4,), (0.2,))
    save_pretrained(
        run.model, run.variables, tmp_path / "saved", architecture="tiny", preprocessing=images
    )
    config = finetune_config("csv:x", Counts(20, 5), str(tmp_path / "saved"))
    assert (config.model.name, config.data.image_size, config.data.mean) == ("tiny", 12, (0.4,))


def test_unknown_weights_are_an_error() -> None:
    with pytest.raises(InputError, match="does not exist"):
        finetune_config("csv:x", Counts(20, 5), "./no/such/weights")


def test_a_part_of_a_file_of_weights_can_be_named() -> None:
    config = finetune_config("csv:x", Counts(20, 5), "resnet18.a1_in1k", key="teacher")
    assert config.model.pretrained_key == "teacher"
    with pytest.raises(InputError, match="key is 'teacher', but there are no weights"):
        finetune_config("csv:x", Counts(20, 5), None, key="teacher")
