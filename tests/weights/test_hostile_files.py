"""Any file of weights or config.json is read, or is an InputError."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flax_resnet import InputError, load_pretrained
from flax_resnet.weights import read_state_dict, write_state_dict
from flax_resnet.weights.files import read_metadata
from flax_resnet.weights.hub_config import Description, parse_config
from flax_resnet.weights.json_fields import read_fields
from flax_resnet.weights.locate import describe
from tests.hostile import made

# All examples share a folder: each overwrites its file.
FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = ["F32", "F64", "BF16", "I64", "BOOL", "U8", "C64", "F8_E4M3", "F8_E5M2", "F4", "X", ""]
SIZES = st.sampled_from([0, 1, 2, 4, 2**31, 2**62, 2**63, 2**64, -1, 1.5, "2", None])
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(DTYPES),
        "shape": st.lists(SIZES, max_size=3) | st.just([1] * 100),
        "data_offsets": st.lists(st.integers(-1, 20) | SIZES, max_size=3),
    }
)
METADATA = st.dictionaries(st.just("flax_resnet") | st.text(max_size=3), st.text(max_size=5))
HEADERS = st.dictionaries(st.sampled_from("abc"), ENTRIES, max_size=2).flatmap(
    lambda arrays: st.just(arrays) | METADATA.map(lambda text: {**arrays, "__metadata__": text})
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
PREPROCESSING = ["input_size", "test_input_size", "crop_pct", "mean", "std", "interpolation"]
FIELDS = [*PREPROCESSING, "architecture", "num_classes", "model_args", "flax_resnet"]
CONFIGS = st.dictionaries(st.sampled_from([*FIELDS, "pretrained_cfg"]), JSON, max_size=3)
NESTED = CONFIGS | CONFIGS.map(lambda fields: {"pretrained_cfg": fields})


def read_all(path: Path) -> None:
    """Read a file in every way; an InputError is a valid result."""
    with contextlib.suppress(InputError):
        assert all(isinstance(array, np.ndarray) for array in read_state_dict(path).values())
    with contextlib.suppress(InputError):
        assert all(isinstance(text, str) for text in read_metadata(path).values())
    with contextlib.suppress(InputError):
        assert isinstance(describe(path), Description)


@given(header=HEADERS, data=st.binary(max_size=16))
@FUZZ
def test_inconsistent_headers(tmp_path: Path, header: dict[str, Any], data: bytes) -> None:
    read_all(made.safetensors(tmp_path / "model.safetensors", header, data))


@given(
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=8)), min_size=1, max_size=4)
)
@FUZZ
def test_damaged_files(tmp_path: Path, edits: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "model.safetensors"
    write_state_dict(path, {"a": np.ones((2, 3)), "b": np.arange(4)}, {"flax_resnet": "{}"})
    data = path.read_bytes()
    for at, new in edits:
        data = data[:at] + new + data[at + len(new) :]
    path.write_bytes(data)
    read_all(path)


@pytest.mark.parametrize("length", [0, 8, 99_000_000, 2**63])
def test_a_header_of_another_length(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(InputError, match=r"not a complete safetensors file|expected a state dict"):
        read_state_dict(path)


@given(NESTED)
def test_arbitrary_configs(config: dict[str, Any]) -> None:
    with contextlib.suppress(InputError):
        found = parse_config(read_fields(json.dumps(config), "a config.json"))
        assert found.architecture is None or isinstance(found.architecture, str)
        assert found.num_classes is None or 0 <= found.num_classes <= 2**20
        images = found.preprocessing
        assert images is None or (images.image_size >= 1 and images.crop_fraction > 0)


@given(st.binary(max_size=20) | st.text(alphabet='[]{}":,019-eE.', max_size=20).map(str.encode))
def test_arbitrary_texts(text: bytes) -> None:
    with contextlib.suppress(InputError):
        assert isinstance(read_fields(text, "a config.json").values, dict)


@pytest.mark.parametrize("text", [b"\xff", b"[" * 100_000, b"1" * 5000, b"", b"[1]"])
def test_texts_that_are_not_objects_are_errors(text: bytes) -> None:
    with pytest.raises(InputError, match=r"a config\.json (is not JSON|contains a list)"):
        read_fields(text, "a config.json")


@pytest.mark.parametrize(
    "arguments",
    [
        {"stage_sizes": 3},
        {"stage_sizes": [1, 1, 1, "one"]},
        {"widths": [-1, -1, -1, -1]},
        {"norm": []},
        {"activation": {"name": "relu"}},
        {"stage_sizes": [2**40, 1, 1, 1]},
    ],
)
def test_invalid_arguments_are_errors(tmp_path: Path, arguments: dict[str, Any]) -> None:
    config = {"architecture": "resnet18", "flax_resnet": arguments}
    with pytest.raises(InputError, match=r"not make a network|expected"):
        load_pretrained(made.weights_folder(tmp_path / "weights", json.dumps(config)))
