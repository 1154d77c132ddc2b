"""`--key` and `--raw`: which of several weights in a file a command uses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import InputError, load_pretrained, restore, save_pretrained, to_torch
from flax_resnet.__main__ import main
from flax_resnet.training.networks import starting_variables
from flax_resnet.training.setup import prepare_run
from flax_resnet.weights import files, write_state_dict


@pytest.fixture
def state_dicts(tiny_run: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return raw weights that always predict the class 2, and others that predict the class 9."""
    run = restore(tiny_run)
    trained = to_torch(run.model, run.variables)
    return {
        name: trained | {"fc.bias": 1e3 * (np.arange(10) == at).astype(np.float32)}
        for name, at in (("raw", 2), ("ema", 9))
    }


@pytest.fixture
def folder(tiny_run: Path, tmp_path: Path, state_dicts: dict[str, dict[str, np.ndarray]]) -> Path:
    """Return a folder of weights that has two networks under prefixes."""
    run = restore(tiny_run)
    save_pretrained(run.model, run.variables, tmp_path / "two", architecture="tiny")
    both = {f"{name}.{k}": v for name, arrays in state_dicts.items() for k, v in arrays.items()}
    write_state_dict(tmp_path / "two" / "model.safetensors", both)
    return tmp_path / "two"


@pytest.fixture
def checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, state_dicts: dict[str, dict[str, np.ndarray]]
) -> Path:
    """Return a file that torch would read as the checkpoint of a run of timm."""
    nested = {"state_dict": state_dicts["raw"], "state_dict_ema": state_dicts["ema"], "epoch": 3}
    monkeypatch.setattr(files, "_read_torch", lambda path: nested)
    (folder / "last.pth.tar").touch()
    return folder / "last.pth.tar"


def first_class(weights: Path, picture: Path, *words: str) -> str:
    """Return the class that `predict` finds."""
    out = picture.with_name("found.jsonl")
    assert main(["predict", str(weights), str(picture), "--jsonl", str(out), *words]) == 0
    found: str = json.loads(out.read_text())["classes"][0]["class"]
    return found


def test_the_average_is_used_and_a_warning_says_so(checkpoint: Path, pictures: Path) -> None:
    with pytest.warns(UserWarning, match=r"state_dict_ema, which are used, .*--key state_dict\)"):
        assert first_class(checkpoint, pictures / "a.png") == "9"
    raw = first_class(checkpoint, pictures / "a.png", "--raw")
    assert raw == first_class(checkpoint, pictures / "a.png", "--key", "state_dict") != "9"
    assert first_class(checkpoint, pictures / "a.png", "--key", "state_dict_ema") == "9"


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "predict": lambda folder: [str(folder / "a.png")],
    "embed": lambda folder: [str(folder / "a.png"), "--out", str(folder / "a.npy")],
    "eval": lambda folder: ["--data", "synthetic:10", "--split", "test[:16]"],
    "export": lambda folder: ["--format", "safetensors", "--out", str(folder / "hub")],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_part_of_a_file(
    command: str, folder: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [command, str(folder), *COMMANDS[command](pictures)]
    with pytest.raises(SystemExit, match="2"):
        main(words)
    told = capsys.readouterr().err
    assert "found: 38 under ema, 38 under raw." in told
    assert len(told.splitlines()) <= 4
    assert main([*words, "--key", "ema"]) == 0


def test_a_part_of_a_run_is_refused(tiny_run: Path, tiny_config: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"is a run, and key is 'ema', which names a part of a f"):
        load_pretrained(tiny_run, key="ema")
    config = tiny_config(model__pretrained=str(tiny_run), model__pretrained_key="ema")
    with pytest.raises(InputError, match="is a run, and key is 'ema'"):
        starting_variables(prepare_run(config))


def test_training_starts_from_a_part(
    folder: Path, tiny_config: Callable[..., Any], state_dicts: dict[str, dict[str, np.ndarray]]
) -> None:
    config = tiny_config(
        data__channels=3, model__pretrained=str(folder), model__pretrained_key="ema"
    )
    found = starting_variables(prepare_run(config))
    np.testing.assert_array_equal(
        jax.device_get(found["params"]["fc"]["bias"]), state_dicts["ema"]["fc.bias"]
    )
