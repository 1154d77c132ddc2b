"""State dicts in files, and in the checkpoints of training scripts."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from flax_resnet import InputError
from flax_resnet.weights import read_state_dict, write_state_dict
from flax_resnet.weights.files import read_metadata
from tests.weights.arrays import WEIGHTS, same


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_state_dict(tmp_path / "model.safetensors", WEIGHTS)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int64"])
def test_arrays_survive_writing_and_reading(tmp_path: Path, dtype: str) -> None:
    path, array = tmp_path / "model.safetensors", np.arange(6.0).reshape(2, 3)
    weights = {"a": array.astype(dtype), "b": array.astype(dtype).T, "c": array[1, 2].astype(dtype)}
    write_state_dict(path, weights)
    assert same(read_state_dict(path), weights)


def test_metadata_has_the_format_of_torch(path: Path) -> None:
    assert read_metadata(path) == {"format": "pt"}
    write_state_dict(path, WEIGHTS, {"made_by": "a test"})
    assert read_metadata(path) == {"format": "pt", "made_by": "a test"}


def test_a_failed_write_does_not_change_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="No space left"):
        write_state_dict(path, {})
    assert same(read_state_dict(path), WEIGHTS)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_file_is_an_error(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"not a complete safetensors file.*copy it again"):
        read_state_dict(path)


def test_a_file_of_another_kind_is_an_error(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 102\n")
    with pytest.raises(InputError, match="not a complete safetensors file"):
        read_state_dict(path)
    with pytest.raises(InputError, match=r"expected one of \.safetensors, \.pth"):
        read_state_dict(path.rename(path.with_suffix(".h5")))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the file .*model\.pth does not exist"):
        read_state_dict(tmp_path / "model.pth")


def test_files_of_torch_need_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"needs torch.*pip install torch.*convert"):
        read_state_dict(path)


def test_files_of_torch_are_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(value) for key, value in WEIGHTS.items()}
    tensors["conv1.weight"] = torch.nn.Parameter(tensors["conv1.weight"])
    checkpoint = {"model": tensors, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    for name in ("model.pth", "model.pt", "pytorch_model.bin", "checkpoint.pth.tar"):
        torch.save(checkpoint, tmp_path / name)
        assert same(read_state_dict(tmp_path / name), WEIGHTS)
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "half.pth")
    assert same(read_state_dict(tmp_path / "half.pth"), {"a": np.ones(2, np.float32)})


def test_files_for_torch_are_read_by_it(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    write_state_dict(path, WEIGHTS | {"half": np.ones(2, ml_dtypes.bfloat16)})
    found = load_file(path)
    assert found["half"].dtype == torch.bfloat16
    assert same({key: found[key].numpy() for key in WEIGHTS}, WEIGHTS)


def test_code_in_files_of_torch_is_never_run(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"state_dict": {}, "code": re.compile("a")}, tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"Unsupported .*could run any code"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_truncated_file_of_torch_is_an_error(tmp_path: Path, length: int) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=r"not a complete file|is damaged"):
        read_state_dict(path)


def test_a_file_of_torch_without_a_dict_is_an_error(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save([1, 2], tmp_path / "model.pth")
    with pytest.raises(InputError, match=r"contains a list: expected a state dict"):
        read_state_dict(tmp_path / "model.pth")
