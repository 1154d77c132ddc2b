"""Compare the runs in two folders bit by bit: all metrics and all arrays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from benchmarks.training_run import CHECKPOINTS, partial_checkpoints, read_rows, whole_checkpoints

# A timing, which differs between runs, and the digests that include it.
CLOCKED = ("images_per_second",)
DIGESTS = ("digest", "history")
Row = dict[str, Any]


def compare_runs(expected: Path, found: Path) -> tuple[list[str], dict[str, int]]:
    """Return where the second run differs from the first, and the numbers of compared items."""
    rows = read_rows(expected)
    try:
        differences = compare_rows(rows, read_rows(found))
    except ValueError as error:
        differences = [f"the metrics cannot be read: {error}"]
    names, names_there = ({path.name for path in folder.iterdir()} for folder in (expected, found))
    differences += [f"{name} is in one folder only" for name in sorted(names ^ names_there)]
    arrays = 0
    kept, kept_there = whole_checkpoints(expected), whole_checkpoints(found)
    if kept != kept_there:
        differences.append(f"checkpoints kept: {kept_there}, expected {kept}")
    if partial_checkpoints(found):
        differences.append(f"half-written checkpoints stay: {partial_checkpoints(found)}")
    for step in sorted({*kept} & {*kept_there}):
        folders = (path / CHECKPOINTS / str(step) for path in (expected, found))
        more, compared = compare_checkpoints(*folders)
        differences += [f"checkpoint {step}: {difference}" for difference in more]
        arrays += compared
    return differences, {"rows": len(rows), "checkpoints": len(kept), "arrays": arrays}


def compare_rows(expected: Sequence[Row], found: Sequence[Row]) -> list[str]:
    """Return which rows are missing, repeated, superfluous, out of order or different."""
    names, names_there = [_name(row) for row in expected], [_name(row) for row in found]
    differences = [f"no row {name}" for name in names if name not in names_there]
    differences += [
        f"row {name} is superfluous" for name in _once(names_there) if name not in names
    ]
    for name in _once(names_there):
        count = names_there.count(name)
        if count > 1:
            differences.append(f"row {name} is there {count} times")
    if not differences and names != names_there:
        differences.append("the rows are in another order")
    by_name = dict(zip(names_there, found, strict=True))
    for name, row in zip(names, expected, strict=True):
        other = by_name.get(name, row)
        for key in sorted((row.keys() | other.keys()) - {*CLOCKED}):
            if not _same(row.get(key), other.get(key)):
                differences.append(
                    f"row {name}: {key} is {other.get(key)}, expected {row.get(key)}"
                )
    return differences


def compare_checkpoints(expected: Path, found: Path) -> tuple[list[str], int]:
    """Return where a checkpoint differs, item by item, and the number of arrays compared."""
    differences, arrays = [], 0
    items = (path.name for folder in (expected, found) for path in folder.iterdir())
    for item in sorted(name for name in set(items) if not name.endswith((".txt", "METADATA"))):
        if not ((expected / item).is_dir() and (found / item).is_dir()):
            differences.append(f"{item} is there in one run only")
        elif (expected / item / "_METADATA").exists():
            leaves, leaves_there = _leaves(expected / item), _leaves(found / item)
            arrays += len(leaves)
            differences += [
                f"{item}{name} differs"
                for name in sorted(leaves.keys() | leaves_there.keys())
                if not _same_array(leaves.get(name), leaves_there.get(name))
            ]
        else:
            differences += [
                f"{item}: {difference}"
                for difference in compare_values(_values(expected / item), _values(found / item))
            ]
    return differences, arrays


def compare_values(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Return where the JSON values of a checkpoint differ; `lines` are rows of metrics."""
    lines, lines_there = ([*map(json.loads, side.get("lines", ()))] for side in (expected, found))
    return compare_rows(lines, lines_there) + [
        f"{key} differs"
        for key in sorted((expected.keys() | found.keys()) - {"lines", *DIGESTS})
        if expected.get(key) != found.get(key)
    ]


def _leaves(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an item by path, restored as numpy arrays."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        shapes = reader.metadata(folder).item_metadata.tree
        how = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        tree = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=how))
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def _values(folder: Path) -> dict[str, Any]:
    """Return the JSON values of all files of an item, merged."""
    files = sorted(path for path in folder.glob("*") if path.suffix != ".txt")
    values = dict[str, Any]()
    for path in files:
        values |= json.loads(path.read_text())
    return values


def _same_array(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return one.tobytes() == other.tobytes()


def _same(one: Any, other: Any) -> bool:
    return one == other or (one != one and other != other)  # both NaN


def _name(row: Row) -> str:
    return f"{row['kind']} {row['step']}"


def _once(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))
