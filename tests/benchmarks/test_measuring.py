import json
import time

import pytest

from benchmarks.measuring import (
    FEWEST_REPEATS,
    measure,
    record_environment,
    result_path,
    summarize,
    table,
    write_json,
)


def test_a_result_path_is_an_unused_slug(tmp_path):
    first = result_path(tmp_path, "gpu", "NVIDIA H200")
    assert first.name.startswith("gpu_nvidia-h200_2")
    write_json(first, {})
    assert result_path(tmp_path, "gpu", "NVIDIA H200").name == first.stem + "-2.json"


def test_write_json_makes_the_folder_and_leaves_no_partial_file(tmp_path):
    path = tmp_path / "new" / "x.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_write_json_refuses_nan(tmp_path):
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


def test_summarize_returns_median_range_and_spread():
    summary = summarize([4.0, 1.0, 2.0])
    assert summary == {"median": 2.0, "min": 1.0, "max": 4.0, "spread": 1.5, "values": [4, 1, 2]}


def test_summarize_of_an_even_number_takes_the_mean_of_the_middle():
    assert summarize([1.0, 2.0, 4.0, 9.0])["median"] == 3.0


def test_summarize_of_one_value_has_no_spread():
    assert summarize([5.0])["spread"] == 0.0


def test_summarize_refuses_an_empty_list():
    with pytest.raises(ValueError, match="at least one value"):
        summarize([])


class Clock:
    """A clock that advances only when a step runs, by `cost` seconds."""

    def __init__(self, monkeypatch, cost):
        self.now, self.cost, self.calls = 100.0, cost, []
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def run(self, steps):
        self.calls.append(steps)
        self.now += steps * self.cost


def test_measure_fills_each_repeat_with_steps(monkeypatch):
    clock = Clock(monkeypatch, 0.25)
    repeats = measure(clock.run, repeats=3, repeat_s=2.0, warm_up_s=0.5)
    assert clock.calls == [1, 1, 8, 8, 8]
    assert [(repeat.steps, repeat.seconds) for repeat in repeats] == [(8, 2.0)] * 3


def test_measure_takes_one_step_if_a_step_is_longer_than_a_repeat(monkeypatch):
    clock = Clock(monkeypatch, 10.0)
    assert [repeat.steps for repeat in measure(clock.run, repeats=2, repeat_s=1, warm_up_s=0)] == [
        1,
        1,
    ]


def test_measure_warms_up_before_the_first_repeat(monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    measure(clock.run, repeats=1, repeat_s=1.0, warm_up_s=0.0)
    assert clock.calls == [1, 1]


def test_a_deadline_leaves_enough_repeats_for_a_spread(monkeypatch):
    clock = Clock(monkeypatch, 1.0)
    repeats = measure(clock.run, repeats=9, repeat_s=1.0, warm_up_s=0.0, deadline=0.0)
    assert len(repeats) == FEWEST_REPEATS
