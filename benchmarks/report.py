"""Results on disk as JSON and on the terminal as plain text."""

import argparse
import datetime
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT

# Results that are worth keeping are committed; those of a quick mode are not, and lie apart.
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "build" / "benchmarks"


def add_result_options(parser: argparse.ArgumentParser) -> None:
    """Add what benchmarks share: a quick mode, and where the result goes with what remark."""
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--output", type=Path, help="folder of the JSON")
    parser.add_argument("--note", help="what a reader must know about the machine")


def target_path(options: argparse.Namespace, kind: str, device: str) -> Path:
    """Return where a benchmark with these options writes: quick results lie apart."""
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    return result_path(folder, f"{'quick ' if options.quick else ''}{kind}", device)


def result_path(folder: Path, kind: str, device: str) -> Path:
    """Return a path `KIND_DEVICE_DATE.json` in `folder` that no file has yet."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    stem = f"{_slug(kind)}_{_slug(device)}_{today}"
    path, number = folder / f"{stem}.json", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.json", number + 1
    return path


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Write a result, its folder too; a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".tmp")
    partial.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    partial.replace(path)


def shown(path: Path) -> str:
    """Return a path as seen from the repository where it lies in there."""
    path = path.resolve()
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows under a header, the first column left-aligned and the others right-aligned."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    texts = []
    for cells in lines:
        first = cells[0].ljust(widths[0])
        rest = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        texts.append("  ".join((first, *rest)).rstrip())
    return "\n".join(texts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
