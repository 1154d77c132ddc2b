"""The explanation of values that are not finite: the layer, the records, and what to do."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax.sharding import Mesh

from flax_resnet.data.positions import locate
from flax_resnet.models.variants import VARIANTS
from flax_resnet.steps.state import TrainState, init_state
from flax_resnet.training.nonfinite import explain_nonfinite
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import Setup, prepare_run
from tests.data.circles import write_circles

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


@pytest.fixture(autouse=True)
def one_stage(tiny_model: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a few layers, because every test compiles a network again."""
    small = dict(stage_sizes=(1,), widths=(8,))
    monkeypatch.setitem(VARIANTS, "tiny", VARIANTS["tiny"] | small)
    monkeypatch.setitem(VARIANTS, "unet", VARIANTS["unet"] | dict(depth=1))


@pytest.fixture
def say(tmp_path: Path) -> Callable[..., tuple[str, dict[str, Any]]]:
    """Return `(setup, changes, number) -> (message, report)`.

    `changes` are factors of leaves, also of scanned layers: `{"params/fc/kernel": 2.0}`.
    """

    def run(setup: Setup, changes: dict[str, float], number: int = 0) -> tuple[str, dict[str, Any]]:
        state = changed(first_state(setup), changes)
        message = str(explain_nonfinite(setup, state, number, tmp_path))
        (path,) = tmp_path.glob("nonfinite-*.json")
        assert path.name == f"nonfinite-{number + 1}.json"
        assert str(path) in message
        return message, json.loads(path.read_text(), parse_constant=pytest.fail)

    return run


def first_state(setup: Setup) -> TrainState:
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    return jax.device_get(init_state(setup.model, setup.optimizer, 0, shape, setup.mesh))


def changed(state: TrainState, changes: dict[str, float]) -> TrainState:
    leaves = traverse_util.flatten_dict(state.variables, sep="/")
    leaves |= {key: leaves[key] * np.float32(factor) for key, factor in changes.items()}
    return state.replace(variables=traverse_util.unflatten_dict(leaves, sep="/"))


@pytest.mark.parametrize(
    "layout",
    [{}, pytest.param({"scan_blocks": True, "remat": True}, marks=pytest.mark.slow)],
    ids=str,
)
def test_the_first_layer_whose_output_is_not_finite_is_named(
    layout: dict[str, bool], say: Any, tiny_config: Configs, devices: Meshes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(VARIANTS, "tiny", VARIANTS["tiny"] | dict(stage_sizes=(4,)))
    setup = prepare_run(tiny_config(model=dict(name="tiny", **layout)), devices(2))
    name = "layer1/scan" if layout else "layer1/2"
    message, report = say(setup, {f"params/{name}/conv2/kernel": 1e38}, 7)
    layer = "layer1.1.conv2" if layout else "layer1.2.conv2"  # all that are scanned are changed
    assert report["layer"] == layer
    assert f" at step 8: {layer} is the first layer whose output is not finite" in message
    assert "config.schedule.learning_rate" in message


def test_only_the_records_that_go_wrong_there_are_suspect(
    say: Any, tiny_config: Configs, devices: Meshes
) -> None:
    setup = prepare_run(tiny_config(data__mean=(0.0,), data__std=(0.01,), seed=5), devices(2))
    source, bright = setup.train_source, locate(16 * 3 + 4, 5, len(setup.train_source))[1]

    class OneBright:
        """The source with one image brighter than black."""

        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, index: int) -> Any:
            example = source[index]
            image = np.full_like(example["image"], 255 * (index == bright))
            return {**example, "image": image}

    setup = dataclasses.replace(setup, train_source=OneBright())
    message, report = say(setup, {"params/conv1/kernel": 1e38}, 3)
    assert report["cause"] == "output"
    assert report["layer"] == "conv1"
    suspects = [number for number, record in enumerate(report["records"]) if record["suspect"]]
    assert suspects == [4]
    assert report["records"][4]["record"] == source.describe(bright)
    assert f"This concerns 1 of the batch's 16 records: {source.describe(bright)};" in message
    assert len(report["records"]) == 16
    assert report["step"] == 4


def test_a_gradient_is_traced_back_from_the_loss(
    say: Any, tiny_config: Configs, devices: Meshes
) -> None:
    setup = prepare_run(tiny_config(), devices(1))
    message, report = say(setup, {"params/fc/kernel": 1e30})
    assert (report["cause"], report["layer"]) == ("gradient", "layer1.0.bn2")
    assert message.startswith("the gradient is not finite at step 1: every layer's output is fin")


def test_variables_that_were_not_finite_before_are_named(
    say: Any, tiny_config: Configs, devices: Meshes
) -> None:
    setup = prepare_run(tiny_config(max_nonfinite=2), devices(1))
    message, report = say(setup, {"batch_stats/layer1/0/bn1/var": float("nan")})
    assert (report["cause"], report["layer"]) == ("variables", "layer1.0.bn1")
    assert "at step 1, after 2 bad updates" in message
    assert "config.max_nonfinite=12" in message


def test_images_that_cannot_be_normalized(say: Any, tiny_config: Configs, devices: Meshes) -> None:
    setup = prepare_run(tiny_config(data__std=(1e-45,)), devices(1))
    message, report = say(setup, {})
    assert report["cause"] == "images"
    assert "config.data.std" in message


def test_a_batch_that_is_finite_the_second_time(
    say: Any, tiny_config: Configs, devices: Meshes
) -> None:
    message, report = say(prepare_run(tiny_config(), devices(1)), {})
    assert report["cause"] == "nothing"
    assert message.startswith("loss or gradient was not finite at step 1: everything is finite")


def test_an_overflow_in_float16_suggests_a_loss_scale(
    say: Any, tiny_config: Configs, devices: Meshes
) -> None:
    config = tiny_config(model=dict(name="tiny", dtype="float16"), loss_scale="1e9")
    message, report = say(prepare_run(config, devices(1)), {})
    assert report["cause"] == "gradient"
    assert "config.loss_scale=dynamic" in message


@pytest.mark.slow
def test_infinite_pixel_weights_affect_only_the_loss(
    say: Any, devices: Meshes, tmp_path: Path
) -> None:
    folder = write_circles(tmp_path / "circles", 4)
    config = parse({
        "task": "segmentation",
        "model": {"name": "unet", "base_width": 2},
        "data": {
            "source": f"masks:{folder}", "train_split": "train[:2]", "eval_split": "train[2:]",
            "batch_size": 2, "image_size": 16, "channels": 1, "mean": (0.3,), "std": (0.25,),
            "workers": 0,
        },
    })  # fmt: skip
    masks = dataclasses.replace(config.data.masks, class_weights=(float("inf"), 1.0))
    data = dataclasses.replace(config.data, masks=masks)
    setup = prepare_run(dataclasses.replace(config, data=data), devices(1))
    message, report = say(setup, {})
    assert report["cause"] == "loss"
    assert "labels and weights" in message
    assert all(str(folder) in record["record"] for record in report["records"])
