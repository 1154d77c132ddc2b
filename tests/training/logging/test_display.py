"""The time left is that of the steps and evaluations to come, without what is done once."""

from __future__ import annotations

import time

import pytest

from flax_resnet.training.logging.display import Display


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list whose only number is the time."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def left(display: Display, step: int, capsys: pytest.CaptureFixture[str]) -> str:
    display.advance(step)
    display.log(step, 0.0, 1.0, 0.5, 10.0)
    return capsys.readouterr().out.split()[-2]


def test_compiling_is_not_extrapolated(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(100, 0)
    clock[0] = 60.0  # the first step compiles for a minute
    assert left(display, 1, capsys) == "?"
    clock[0] += 9.0
    assert left(display, 10, capsys) == "0:01:30"
    display.close()


def test_evaluations_to_come_count_as_the_quickest_one(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(40, 0)
    display.advance(1)
    for step, seconds in ((11, 30.0), (21, 5.0)):
        clock[0] += 10.0
        display.advance(step)
        display.evaluating("validation", 3)
        clock[0] += seconds
        display.evaluated("done")
    capsys.readouterr()
    # 20 steps took 20 seconds and two evaluations; 20 more are to come.
    assert left(display, 20 + 1, capsys) == "0:00:28"
    display.close()


def test_slow_steps_show_that_the_run_goes_on(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    display = Display(10, 0)
    for step in (1, 2, 3):
        clock[0] += 40.0
        display.advance(step)
    assert capsys.readouterr().out == "step 2/10  0:05:20 left\n"
    display.close()
