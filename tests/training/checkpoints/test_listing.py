"""The list of a checkpoint's files finds every change to them."""

import itertools
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


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_config: Callable[..., Any]) -> Path:
    train(tiny_config(steps=2, average__ema=0.5), tmp_path)
    return tmp_path / "checkpoints" / "2"


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
