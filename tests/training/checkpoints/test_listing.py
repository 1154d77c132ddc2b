"""The list of a checkpoint's files finds every change to them."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_resnet import train
from flax_resnet.training.checkpoints.integrity import ARRAYS, LIST, damage


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the run whose checkpoint all tests here copy."""
    return tmp_path_factory.mktemp("listing")


@pytest.fixture
def checkpoint(home: Path, tmp_path: Path, tiny_config: Callable[..., Any]) -> Path:
    """Return a copy of a checkpoint, which the first test creates."""
    if not (home / "run").exists():
        train(tiny_config(steps=2, average__ema=0.5), home / "run")
    return shutil.copytree(home / "run" / "checkpoints" / "2", tmp_path / "2")


def test_every_change_to_a_file_is_named(checkpoint: Path) -> None:
    assert damage(checkpoint, ARRAYS) == ""
    for item in ARRAYS:
        files = [path for path in (checkpoint / item).rglob("*") if path.is_file()]
        listed = [path for path in files if path.name not in (LIST, "commit_success.txt")]
        assert listed
        for path, change in itertools.product(listed, [shorten, change_a_byte, Path.unlink]):
            whole = path.read_bytes()
            change(path)
            assert path.name in damage(checkpoint, ARRAYS)
            path.write_bytes(whole)
    assert damage(checkpoint, ARRAYS) == ""


def test_a_lost_list_is_named(checkpoint: Path) -> None:
    (checkpoint / "optimizer" / LIST).unlink()
    assert damage(checkpoint, ["variables"]) == ""
    assert "optimizer" in damage(checkpoint, ARRAYS)
