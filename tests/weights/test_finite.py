"""Weights that are not finite are refused wherever a network is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import InputError, ResNet, load_pretrained, restore, to_torch
from flax_resnet.__main__ import main
from flax_resnet.models import variable_shapes
from flax_resnet.training.networks import starting_variables
from flax_resnet.training.setup import prepare_run
from flax_resnet.weights import save_pretrained, to_variables, write_state_dict

TINY = ResNet(stage_sizes=(1, 1), widths=(4, 8), num_classes=5)
SOURCE = "weights.pth"


@pytest.fixture
def state_dict() -> dict[str, np.ndarray]:
    return to_torch(TINY, jax.tree.map(lambda s: np.ones(s.shape, s.dtype), variable_shapes(TINY)))


def damage(variables: Any) -> Any:
    """Return variables with one nan in the first convolution."""
    variables = jax.tree.map(np.array, variables)
    variables["params"]["conv1"]["kernel"][0, 0, 0, 0] = np.nan
    return variables


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_the_first_arrays_are_named(state_dict: dict[str, np.ndarray], number: float) -> None:
    for key in ("conv1.weight", "bn1.running_mean", "layer1.0.bn1.bias", "fc.bias"):
        state_dict[key].flat[0] = number
    with pytest.raises(InputError) as caught:
        to_variables(TINY, state_dict, SOURCE)
    message = str(caught.value)
    assert "weights.pth has 4 of 32 arrays " in message
    assert "bn1.running_mean (1 of 4 numbers are not finite), conv1.weight (1 of 588" in message
    assert "layer1.0.bn1.bias (1 of 4 numbers are not finite), ..." in message


def test_a_variance_has_a_root(state_dict: dict[str, np.ndarray]) -> None:
    state_dict["bn1.running_var"][:2] = 0, -1e-7
    to_variables(TINY, state_dict, SOURCE)
    state_dict["bn1.running_var"][0] = -1
    with pytest.raises(InputError, match=r"bn1\.running_var \(1 of 4 numbers are negative\)"):
        to_variables(TINY, state_dict, SOURCE)


def test_numbers_beyond_float32_are_infinite(
    state_dict: dict[str, np.ndarray], tmp_path: Path
) -> None:
    state_dict["fc.bias"] = np.full(5, 1e300)
    write_state_dict(tmp_path / "a.safetensors", state_dict)
    sizes = {"stage_sizes": (1, 1), "widths": (4, 8)}
    with pytest.raises(InputError, match=r"a\.safetensors has 1 .*fc\.bias \(5 of 5"):
        load_pretrained(tmp_path / "a.safetensors", model="resnet18", **sizes)


@pytest.fixture
def damaged(tiny_run: Path, tmp_path: Path) -> Path:
    """Return a folder of weights with nan in them."""
    run = restore(tiny_run)
    variables = damage(run.variables)
    save_pretrained(run.model, variables, tmp_path / "damaged", architecture="tiny")
    return tmp_path / "damaged"


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "predict": lambda folder: [str(folder / "a.png")],
    "embed": lambda folder: [str(folder / "a.png"), "--out", str(folder / "a.npy")],
    "eval": lambda folder: ["--data", "synthetic:10"],
    "serve": lambda folder: ["--port", "0"],
    **{
        f"export {form}": lambda folder, form=form: ["--format", form, "--out", str(folder / "x")]
        for form in ("stablehlo", "onnx", "savedmodel", "safetensors")
    },
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_them(
    damaged: Path, pictures: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "serve":
        pytest.importorskip("fastapi")
    with pytest.raises(SystemExit, match="2"):
        main([command.split()[0], str(damaged), *COMMANDS[command](pictures)])
    told = capsys.readouterr().err
    assert f"{damaged} has 1 of " in told
    assert "conv1.weight (1 of" in told
    assert not [path for path in pictures.iterdir() if path.suffix in (".npy", "")][1:]


def test_a_run_does_not_start_from_them(damaged: Path, tiny_config: Callable[..., Any]) -> None:
    setup = prepare_run(tiny_config(data__channels=3, model__pretrained=str(damaged)))
    with pytest.raises(InputError, match=r"damaged has 1 .*conv1\.weight \(1 of"):
        starting_variables(setup)


def test_a_checkpoint_with_them_is_not_evaluated(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flax_resnet.training import runs

    read = runs.restore_variables
    monkeypatch.setattr(runs, "restore_variables", lambda *args: damage(read(*args)))
    for load in (restore, load_pretrained):
        with pytest.raises(InputError, match=r"checkpoint 1 of .*conv1\.weight \(1 of"):
            load(tiny_run)
