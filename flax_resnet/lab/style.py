"""The style of all figures, and of the numbers in findings."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

# Figures are only written to files, even on machines without a screen.
matplotlib.use("agg")

# On a logarithmic axis, errors below this value in %, including zero, are drawn at it.
LEAST_ERROR = 0.05
# Wong's colors, which color-blind readers can distinguish.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
KINDS = {"residual": COLORS[0], "plain": COLORS[1]}
_SETTINGS: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
matplotlib.rcParams.update(_SETTINGS)


def new_figure(
    rows: int = 1, columns: int = 1, *, width: float = 4.2, height: float = 3.2, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes, as an array of (rows, columns).

    Args:
      width, height: of each panel, in inches.
    """
    figure = Figure(figsize=(width * columns, height * rows), dpi=150, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options)
    return figure, axes


def band(axes: Any, x: Sequence[float] | np.ndarray, values: np.ndarray, **options: Any) -> None:
    """Draw the mean of `values` (seeds, points) as a line, and their range as a band around it."""
    finite = np.ma.masked_invalid(values)  # seeds that diverged are left out
    (line,) = axes.plot(x, finite.mean(0), **options)
    if len(values) > 1:
        color = line.get_color()
        axes.fill_between(x, finite.min(0), finite.max(0), color=color, alpha=0.15, linewidth=0)


def legend_below(axes: Any, columns: int = 3) -> None:
    """Draw the legend below the panel."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns)


def shades(color_map: str, count: int) -> list[Any]:
    """Return `count` colors from light to dark."""
    return list(matplotlib.colormaps[color_map](np.linspace(0.35, 0.95, count)))


def counted(axes: Any, what: str) -> None:
    """Label the x axis, and put its ticks at whole numbers."""
    axes.set_xlabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def logarithmic(axis: Any, floor: float | None = None) -> None:
    """Make an axis logarithmic, with ticks at 1, 2 and 5 and plain numbers.

    Args:
      floor: the start of the axis; the caller raises smaller values, such as 0, to it.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if floor is not None:
        axis.axes.set(**{f"{axis.axis_name}lim": (floor, None)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def count_seeds(count: int) -> str:
    """Return the number of seeds in words, and the meaning of the numbers in brackets."""
    return f"{count} seeds, mean and range" if count > 1 else "1 seed"


def percent(shares: np.ndarray) -> str:
    """Return the mean and range of fractions, one for each seed, as percentages."""
    spread = f" ({shares.min():.1%} to {shares.max():.1%})" if shares.size > 1 else ""
    return f"{shares.mean():.1%}{spread}"


def mean_or_diverged(losses: np.ndarray) -> str:
    """Return the mean final loss of curves (seeds, epochs), and how many seeds diverged."""
    last = losses[:, -1]
    diverged = int(np.isnan(last).sum())
    if not diverged:
        return f"{last.mean():.2g}"
    words = f"{diverged} of {len(last)} seeds diverged"
    return words if diverged == len(last) else f"{np.nanmean(last):.2g}, {words}"
