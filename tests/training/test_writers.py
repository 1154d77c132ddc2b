"""Rows on disk: none lost, none twice."""

import json
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event

from flax_resnet.training.writers import JsonLines, Writers


def steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_rows_past_the_restored_step_are_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonLines(path, start=0)
    for step in (1, 2, 3, 4):
        first.write({"step": step})
    first.close()
    JsonLines(path, start=2).close()
    assert steps(path) == [1, 2]


def test_a_line_torn_by_a_dying_run_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "lo')
    resumed = JsonLines(path, start=2)
    resumed.write({"step": 2})
    resumed.close()
    assert steps(path) == [1, 2]


def test_a_process_that_does_not_write_leaves_no_file(tmp_path: Path) -> None:
    writers = Writers(tmp_path, 0, active=False)
    writers.write("train", 1, {"loss": 1.0})
    writers.close()
    assert list(tmp_path.iterdir()) == []


def test_numbers_reach_tensorboard_under_their_kind(tmp_path: Path) -> None:
    writers = Writers(tmp_path, 0)
    writers.write("train", 3, {"loss": 1.5})
    writers.close()
    (events,) = (tmp_path / "tensorboard").glob("events*")
    data, scalars = events.read_bytes(), {}
    while data:  # length, its checksum, the event, its checksum
        length = int.from_bytes(data[:8], "little")
        event = Event.FromString(data[12 : 12 + length])
        scalars |= {v.tag: (event.step, v.simple_value) for v in event.summary.value}
        data = data[16 + length :]
    assert scalars == {"train/loss": (3, 1.5)}
