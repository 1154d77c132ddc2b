"""Turn metrics into the lines and ticks of charts, which the template draws as SVG."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from flax_resnet.inference.calibration import Bin
from flax_resnet.training.logging.writers import Row

WIDTH, HEIGHT = 460, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 24
# Points per curve: a screen cannot show more, and the page stays small.
_POINTS = 400
COLORS = 7

Points = list[tuple[float, float]]

Kinds = tuple[tuple[str, str, str], ...]


def _evaluated(key: str) -> Kinds:
    """Return a metric of the evaluations, and of averages, with their labels."""
    return (
        ("eval", key, "validation"),
        ("eval", f"ema_{key}", "validation, EMA"),
        ("eval", f"swa_{key}", "validation, SWA"),
    )


# Title, and the kind and key in `metrics.jsonl`, and the label, of each of its lines.
_CHARTS: tuple[tuple[str, Kinds], ...] = (
    ("loss", (("train", "loss", "training"), *_evaluated("loss"))),
    ("accuracy", (("train", "accuracy", "training"), *_evaluated("top1"))),
    ("mAP", _evaluated("map")),
    ("Dice", _evaluated("dice")),
    ("learning rate", (("train", "learning_rate", "training"),)),
    ("gradient norm", (("train", "gradient_norm", "training"),)),
    ("images per second", (("train", "images_per_second", "training"),)),
)


_STAGE = "gradient_norm/"


class Line(NamedTuple):
    """A curve in the chart's coordinates."""

    name: str
    color: int
    trained: bool
    """Whether it shows training, which is drawn thinner than evaluations."""
    parts: list[str]
    """The curve's unbroken parts, each as an SVG `points` attribute."""
    ends: tuple[float, float]
    """The last point, so that a curve of a single point is visible."""


class Chart(NamedTuple):
    """Curves over the steps, with the positions and labels of the ticks."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    best: float | None
    """The x position of the reported checkpoint; None if it is unknown, or for several runs."""


def charts(runs: Sequence[tuple[str, list[Row]]], best: int | None = None) -> list[Chart]:
    """Return the charts of one run, or of several runs in the same axes.

    Args:
      runs: the name and the rows of `metrics.jsonl` of each.
      best: a step to mark.
    """
    several = len(runs) > 1
    found = []
    for title, kinds in (*_CHARTS, *([] if several else _stage_charts(runs[0][1]))):
        curves = []
        for at, (name, rows) in enumerate(runs):
            for which, (kind, key, what) in enumerate(kinds):
                points = _points(rows, kind, key)
                if key.startswith(_STAGE):
                    points = [(step, math.log10(v) if v > 0 else math.nan) for step, v in points]
                if any(math.isfinite(value) for _, value in points):
                    label = f"{name}: {what}" if several else what
                    curves.append((label, at if several else which, kind == "train", points))
        if curves:
            found.append(_chart(title, curves, best))
    return found


def reliability_chart(curves: Sequence[tuple[str, Sequence[Bin]]]) -> Chart:
    """Return a reliability diagram: accuracy over confidence, and the ideal diagonal.

    Args:
      curves: the name and the bins of each; bins without images are left out.
    """

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        x = _LEFT + (WIDTH - _LEFT - _RIGHT) * confidence
        return round(x, 1), round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * accuracy, 1)

    shown = [("accuracy equals confidence", [(0.0, 0.0), (1.0, 1.0)])]
    shown += [
        (name, [(b.confidence, b.accuracy) for b in bins if b.images]) for name, bins in curves
    ]
    lines = []
    for number, (name, points) in enumerate(shown):
        places = [at(*point) for point in points] or [at(0, 0)]
        part = " ".join(f"{x},{y}" for x, y in places)
        color = COLORS - 1 if number == 0 else number - 1
        lines.append(Line(name, color, number == 0, [part], places[-1]))
    ticks = [number / 5 for number in range(6)]
    return Chart(
        "reliability: accuracy over confidence",
        lines,
        [(at(tick, 0)[0], f"{tick:g}") for tick in ticks],
        [(at(0, tick)[1], f"{tick:g}") for tick in ticks],
        None,
    )


def _stage_charts(rows: Iterable[Row]) -> list[tuple[str, Kinds]]:
    """Return the chart of the gradient norms of stages, if the run has logged them."""
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(_STAGE))
    kinds = tuple(("train", key, key.removeprefix(_STAGE)) for key in keys)
    return [("gradient norm by stage, log10", kinds)] if kinds else []


def _points(rows: Iterable[Row], kind: str, key: str) -> Points:
    """Return steps and values, NaN for null, thinned to at most `_POINTS`."""
    found = [
        (row["step"], math.nan if row[key] is None else float(row[key]))
        for row in rows
        if row["kind"] == kind and key in row
    ]
    every = -(-len(found) // _POINTS)
    # Thinned from the end, so that the last point stays.
    return found[::-1][:: max(every, 1)][::-1]


def _chart(title: str, curves: list[tuple[str, int, bool, Points]], best: int | None) -> Chart:
    every = np.array([point for *_, points in curves for point in points], float)
    finite = every[np.isfinite(every[:, 1])]
    x_low, x_high = 0.0, max(float(every[:, 0].max()), 1.0)
    y_ticks = MaxNLocator(5, min_n_ticks=2).tick_values(*_range(finite[:, 1]))
    y_low, y_high = float(y_ticks[0]), float(y_ticks[-1])
    x_ticks = MaxNLocator(5, integer=True).tick_values(x_low, x_high)

    def x(step: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * (step - x_low) / (x_high - x_low), 1)

    def y(value: float) -> float:
        share = (value - y_low) / (y_high - y_low or 1)
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * share, 1)

    lines = []
    for name, color, trained, points in curves:
        known = [point for point in points if math.isfinite(point[1])]
        parts = [" ".join(f"{x(s)},{y(v)}" for s, v in part) for part in _unbroken(points)]
        ends = (x(known[-1][0]), y(known[-1][1]))
        lines.append(Line(name, color % COLORS, trained, parts, ends))
    return Chart(
        title,
        lines,
        [(x(tick), f"{tick:,.0f}") for tick in x_ticks if tick <= x_high],
        [(y(tick), f"{tick:.6g}") for tick in y_ticks],
        None if best is None or best > x_high else x(best),
    )


def _range(values: np.ndarray) -> tuple[float, float]:
    """Return the lowest and highest value, with a margin of 5% around almost constant values."""
    low, high = float(values.min()), float(values.max())
    size = max(abs(low), abs(high))
    margin = 0.05 * (size or 1.0) if high - low <= 1e-3 * size else 0.0
    return low - margin, high + margin


def _unbroken(points: Points) -> list[Points]:
    """Split a curve where its values are not finite."""
    parts: list[Points] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            parts[-1].append(point)
        else:
            parts.append([])
    return [part for part in parts if part]
