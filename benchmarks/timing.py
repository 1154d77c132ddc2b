"""Repeats of steps on a wall clock, and what to say about a handful of numbers."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# Fewer repeats than this have no spread worth the name, so a deadline does not cut below it.
FEWEST_REPEATS = 2


@dataclass(frozen=True)
class Repeat:
    """A number of steps and the seconds that they took together."""

    steps: int
    seconds: float


def measure(
    run: Callable[[int], Any],
    *,
    repeats: int,
    repeat_s: float,
    warm_up_s: float,
    deadline: float = float("inf"),
) -> list[Repeat]:
    """Warm up, then time `repeats` times as many steps as fill `repeat_s`, at least one each.

    Args:
      run: runs so many steps and returns when the device has finished the last of them.
      deadline: value of `time.perf_counter()` after which no further repeat starts, two aside.
    """
    began, fastest = time.perf_counter(), float("inf")
    while fastest == float("inf") or time.perf_counter() - began < warm_up_s:
        fastest = min(fastest, _timed(run, 1).seconds)
    steps = max(1, round(repeat_s / fastest))
    taken: list[Repeat] = []
    while len(taken) < repeats:
        if len(taken) >= FEWEST_REPEATS and time.perf_counter() > deadline:
            break
        taken.append(_timed(run, steps))
    return taken


def summarize(values: Sequence[float]) -> dict[str, Any]:
    """Return median, min, max, spread = (max - min) / median, and the values themselves."""
    if not values:
        raise ValueError("there is nothing to summarize: expected at least one value")
    median = statistics.median(values)
    low, high = min(values), max(values)
    return {
        "median": median,
        "min": low,
        "max": high,
        "spread": (high - low) / median,
        "values": list(values),
    }


def _timed(run: Callable[[int], Any], steps: int) -> Repeat:
    began = time.perf_counter()
    run(steps)
    return Repeat(steps, max(time.perf_counter() - began, 1e-9))
