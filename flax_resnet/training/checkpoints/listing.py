"""The files of a checkpoint's arrays, listed while they are saved and checked before they are read.

TensorStore meets a torn file in threads of its own, and fills the screen with their tracebacks
before Orbax raises an error. A list of sizes and digests keeps it from ever opening one.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

ARRAYS = ("variables", "optimizer", "average")
LIST = "files.json"


class ListingHandler(ocp.StandardCheckpointHandler):
    """Save arrays as Orbax does, and a list of their files before the checkpoint counts as one."""

    def finalize(self, directory: Any) -> None:
        """Write the list; Orbax calls this in one process, when all have written theirs."""
        super().finalize(directory)
        folder = Path(directory)
        (folder / LIST).write_text(json.dumps(_listed(folder)))


def handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    """Return who writes and reads the items of a checkpoint."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for item in ARRAYS:
        handler = ListingHandler()
        registry.add(item, ocp.args.StandardSave, handler)
        registry.add(item, ocp.args.StandardRestore, handler)
    return registry


def damage(checkpoint: Path, items: Iterable[str]) -> str:
    """Return what is wrong with the files of `items`, the first thing; "" where nothing is."""
    for item in items:
        try:
            expected = json.loads((checkpoint / item / LIST).read_text())
            found = {name: _entry(checkpoint / item / name) for name in expected}
        except (OSError, ValueError, TypeError) as error:
            return f"{item}: {error}"
        for name, entry in found.items():
            if entry != expected[name]:
                return f"{item}/{name} is not what was saved: {entry}, once {expected[name]}"
    return ""


def _listed(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _entry(path) for path in files}


def _entry(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return f"{path.stat().st_size} bytes {digest.hexdigest()}"
