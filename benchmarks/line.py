"""A straight line through measurements, and whether they grow along it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """The line of least squares through values over time.

    Attributes:
      per_hour: its slope.
      growth: its rise from the first time to the last, as a share of the values' mean.
      lowest: the least value.
      highest: the largest one.
    """

    per_hour: float
    growth: float
    lowest: float
    highest: float


def fit_line(seconds: Sequence[float], values: Sequence[float]) -> Line:
    """Return the line through values at times in seconds.

    Raises:
      ValueError: there are less than three values, or not as many as times.
    """
    if len(values) < 3 or len(values) != len(seconds):
        raise ValueError(f"a line needs 3 values or more, found {len(values)} at {len(seconds)}")
    slope, _ = np.polyfit(np.asarray(seconds) - seconds[0], values, 1)
    mean = float(np.mean(values))
    growth = float(slope) * (seconds[-1] - seconds[0]) / mean if mean else 0.0
    return Line(float(slope) * 3600, growth, float(min(values)), float(max(values)))
