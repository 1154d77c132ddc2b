"""The look that all figures share."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

# Never a window: figures go into files, also on machines without a screen.
matplotlib.use("agg")

# Errors in % below it, 0 among them, are drawn at it where the axis is logarithmic.
LEAST_ERROR = 0.05
# Wong's colours, which people with any colour vision can tell apart.
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
    finite = np.ma.masked_invalid(values)  # what diverged is left out
    (line,) = axes.plot(x, finite.mean(0), **options)
    if len(values) > 1:
        color = line.get_color()
        axes.fill_between(x, finite.min(0), finite.max(0), color=color, alpha=0.15, linewidth=0)


def legend_below(axes: Any, columns: int = 3) -> None:
    """Put the legend under the panel, where it hides nothing."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns)


def shades(color_map: str, count: int) -> list[Any]:
    """Return `count` colours from light to dark."""
    return list(matplotlib.colormaps[color_map](np.linspace(0.35, 0.95, count)))


def counted(axes: Any, what: str) -> None:
    """Label the x axis with what is counted along it, in whole numbers."""
    axes.set_xlabel(what)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def logarithmic(axis: Any, floor: float | None = None) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5.

    Args:
      floor: where the axis starts; what is drawn below it, such as 0, is to be raised to it.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    if floor is not None:
        axis.axes.set(**{f"{axis.axis_name}lim": (floor, None)})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def count_seeds(count: int) -> str:
    """Say how many seeds there were, and what the figures in brackets are."""
    return f"{count} seeds, mean and range" if count > 1 else "1 seed"


def percent(shares: np.ndarray) -> str:
    """Write shares of 1, one a seed, as their mean and range."""
    spread = f" ({shares.min():.1%} to {shares.max():.1%})" if shares.size > 1 else ""
    return f"{shares.mean():.1%}{spread}"


def mean_or_diverged(losses: np.ndarray) -> str:
    """Write the mean of the last losses of curves (seeds, epochs), and how many are no numbers."""
    last = losses[:, -1]
    diverged = int(np.isnan(last).sum())
    if not diverged:
        return f"{last.mean():.2g}"
    words = f"{diverged} of {len(last)} seeds diverged"
    return words if diverged == len(last) else f"{np.nanmean(last):.2g}, {words}"
