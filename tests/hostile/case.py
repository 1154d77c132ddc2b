"""One row of the table of bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    """One row: a description of the input, what is done with it in a folder, and the message."""

    input: str
    run: Callable[[Path], object]
    says: str
