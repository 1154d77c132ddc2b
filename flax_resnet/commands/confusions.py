"""A confusion matrix on the screen: whole, or the worst of it."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flax_resnet.errors import printable
from flax_resnet.inference.confusion import worst_mistakes

# Of more classes nobody reads a matrix.
_SHOWN = 12


def confusion_table(console: Console, confusion: np.ndarray, names: Sequence[str]) -> Table:
    """Return the matrix as a table, or the pairs that are mixed up most where it is too large.

    Args:
      console: what it has to fit on.
    """
    names = [printable(name) for name in names]
    table = _whole(confusion[:_SHOWN, :_SHOWN], names[:_SHOWN])
    # Of itself a measure ends at the width of the screen.
    wide = console.options.update(max_width=2**16)
    fits = console.measure(table, options=wide).maximum <= console.width
    return table if fits and len(names) <= _SHOWN else _worst(confusion, names)


def _whole(confusion: np.ndarray, names: Sequence[str]) -> Table:
    table = Table(title="pictures of each class (rows) and what they were taken for")
    table.add_column("truth")
    for name in names:
        table.add_column(Text(name), justify="right")
    table.add_column("right", justify="right")
    for at, (name, row) in enumerate(zip(names, confusion, strict=True)):
        # What is right and what never happened stay in the background.
        cells = [
            Text(str(count), "bold" if other == at else "red" if count else "dim")
            for other, count in enumerate(row.tolist())
        ]
        table.add_row(Text(name), *cells, _share(row[at], row.sum()))
    return table


def _worst(confusion: np.ndarray, names: Sequence[str]) -> Table:
    table = Table(title="the classes that are mixed up most")
    for column in ("truth", "taken for"):
        table.add_column(column, overflow="fold")
    for column in ("pictures", "of"):
        table.add_column(column, justify="right")
    for truth, found, count in worst_mistakes(confusion):
        total = str(confusion[truth].sum())
        table.add_row(Text(names[truth]), Text(names[found]), str(count), total)
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
