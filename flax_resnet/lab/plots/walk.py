"""The steps of the walk as a table."""

import textwrap

from matplotlib.figure import Figure

from flax_resnet.lab.plots.style import COLORS, new_figure
from flax_resnet.lab.walk import Result

COLUMNS = {"what is told": 0.0, "expected": 0.5, "computed here": 0.74}
WRAP = (70, 28, 28)


def draw(result: Result) -> Figure:
    """Write a line for each step; those that come out otherwise are coloured."""
    count = len(result.names)
    figure, axes = new_figure(width=10, height=0.42 * (count + 2))
    panel = axes[0, 0]
    panel.set(xlim=(0, 1), ylim=(count, -1))
    panel.axis("off")
    for title, x in COLUMNS.items():
        panel.text(x, -0.6, title, weight="bold", va="center")
    rows = zip(result.claims, result.expected, result.printed, result.ok, strict=True)
    for line, (*words, ok) in enumerate(rows):
        panel.axhline(line - 0.1, color="lightgrey", linewidth=0.6)
        color = "black" if ok else COLORS[1]
        for text, x, width in zip(words, COLUMNS.values(), WRAP, strict=True):
            wrapped = textwrap.fill(text, width)
            panel.text(x, line + 0.4, wrapped, va="center", color=color, parse_math=False)
    right = int(result.ok.sum())
    panel.set_title(
        f"First examples of residual learning: {right} of {count} as told (the others in colour)"
    )
    return figure
