"""The rows of metrics that a run wrote down."""

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read_rows(workdir: Path) -> list[Row]:
    """Return the rows of a run's metrics; what a dying run tore is left out."""
    rows = []
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows
