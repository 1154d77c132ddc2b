import json

import pytest

from benchmarks.environment import record_environment
from benchmarks.report import result_path, table, write_json


def test_a_result_path_is_a_slug_that_no_file_has(tmp_path):
    first = result_path(tmp_path, "gpu", "NVIDIA H200")
    assert first.name.startswith("gpu_nvidia-h200_2")
    write_json(first, {})
    assert result_path(tmp_path, "gpu", "NVIDIA H200").name == first.stem + "-2.json"


def test_write_json_makes_the_folder_and_leaves_no_partial_file(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_write_json_refuses_what_json_cannot_say(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})


def test_a_table_aligns_names_left_and_numbers_right():
    assert table(("", "n"), [("a", "10"), ("long", "5")]).splitlines() == [
        "       n",
        "----  --",
        "a     10",
        "long   5",
    ]


def test_the_environment_names_versions_but_no_host_and_no_folder(tmp_path):
    import socket
    from pathlib import Path

    environment = record_environment("shared")
    text = json.dumps(environment)
    assert environment["note"] == "shared"
    assert {"jax", "jaxlib", "flax", "optax", "numpy"} <= set(environment["packages"])
    assert environment["cores"] >= 1
    assert str(Path.cwd()) not in text
    assert socket.gethostname() not in text
