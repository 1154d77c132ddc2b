"""Digests of a checkpoint's arrays and files, computed when saving, verified when reading."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from flax_resnet.files import replace_text

Digests = dict[str, str]


def array_digests(tree: Any) -> Digests:
    """Return `{path: "dtype shape digest"}` of the arrays of a tree.

    The digest consists of two sums of the array's words modulo 2^32, one weighted by position. A
    single changed bit always changes it; any other change is missed one time in 2^32.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    # Start all before waiting for the first.
    sums = [_sums(leaf) for _, leaf in leaves]
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{_kind(leaf)} {_hex(pair)}"
        for (path, leaf), pair in zip(leaves, sums, strict=True)
    }


def array_kinds(tree: Any) -> Digests:
    """Return `{path: "dtype shape"}` of a tree of arrays or of their shapes."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): _kind(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def kind_of(digest: str) -> str:
    """Return the "dtype shape" of an entry of `array_digests`."""
    return digest.rsplit(" ", 1)[0]


def text_digest(values: Any) -> str:
    """Return the digest of JSON values, which does not change when they are stored and read."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@jax.jit
def _sums(array: jax.Array) -> jax.Array:
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    width = {1: jnp.uint8, 2: jnp.uint16}.get(array.dtype.itemsize, jnp.uint32)
    words = jax.lax.bitcast_convert_type(array, width).ravel().astype(jnp.uint32)
    odd = 2 * jax.lax.iota(jnp.uint32, words.size) + 1
    return jnp.stack([words.sum(), (words * odd).sum()])


def _kind(array: Any) -> str:
    return f"{array.dtype} {'x'.join(map(str, array.shape)) or 'scalar'}"


def _hex(pair: jax.Array) -> str:
    first, second = np.asarray(pair)
    return f"{first:08x}{second:08x}"


ARRAYS = ("variables", "optimizer", "average")
LIST = "files.json"


class ListingHandler(ocp.StandardCheckpointHandler):
    """Save arrays as Orbax does, and a list of their files before the checkpoint is committed."""

    def finalize(self, directory: Any) -> None:
        """Write the list; Orbax calls this in one process, after all have written their files."""
        super().finalize(directory)
        folder = Path(directory)
        replace_text(folder / LIST, json.dumps(_listed(folder)))


def handlers() -> ocp.handlers.CheckpointHandlerRegistry:
    """Return the handlers that write and read the items of a checkpoint."""
    registry = ocp.handlers.DefaultCheckpointHandlerRegistry()
    for item in ARRAYS:
        handler = ListingHandler()
        registry.add(item, ocp.args.StandardSave, handler)
        registry.add(item, ocp.args.StandardRestore, handler)
    return registry


def damage(checkpoint: Path, items: Iterable[str]) -> str:
    """Return the first difference between the files of `items` and their list, or ""."""
    for item in items:
        try:
            expected = json.loads((checkpoint / item / LIST).read_text())
            found = {name: _entry(checkpoint / item / name) for name in expected}
        except (OSError, ValueError, TypeError) as error:
            return f"{item}: {error}"
        for name, entry in found.items():
            if entry != expected[name]:
                return f"{item}/{name} is not what was saved: {entry}, was {expected[name]}"
    return ""


def _listed(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): _entry(path) for path in files}


def _entry(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    return f"{path.stat().st_size} bytes {digest.hexdigest()}"
