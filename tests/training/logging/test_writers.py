"""Rows on disk: none lost, none twice."""

import json
import math
from pathlib import Path

import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import JsonLines, Writers


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_resumed_file_has_the_rows_of_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, [])
    first.write({"step": 1})
    at_checkpoint = list(first.lines)
    first.write({"step": 2})
    first.close()
    with path.open("a") as file:
        file.write('{"step": 3, "lo')  # cut off when the run was killed
    resumed = JsonLines(path, at_checkpoint)
    resumed.write({"step": 2})
    resumed.close()
    assert steps(path) == [1, 2]


def test_a_row_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=f"metrics could not be written to {tmp_path}"):
        Writers(tmp_path, TrainConfig())


def test_rows_are_json_even_if_numbers_are_not_finite(tmp_path: Path) -> None:
    rows = JsonLines(tmp_path / "metrics.jsonl", [])
    rows.write({"step": 1, "loss": math.nan, "gradient_norm": math.inf})
    rows.close()
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": None, "gradient_norm": None}


def test_a_process_that_does_not_write_leaves_no_file(tmp_path: Path) -> None:
    writers = Writers(tmp_path, TrainConfig(), active=False)
    writers.write("train", 1, {"loss": 1.0})
    writers.close()
    assert list(tmp_path.iterdir()) == []
