"""Which parameters a rule of the optimiser reaches, by their names."""

from typing import Any

import jax

from flax_resnet.models.parts import part_of
from flax_resnet.models.stages import SCAN


def decay_mask(params: Any) -> Any:
    """Mark the parameters that weight decay reaches: kernels, but no bias and no norm."""
    # By name and not by axes: in scanned blocks the vectors of a norm are stacked to a matrix.
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def matrix_mask(params: Any) -> Any:
    """Mark the kernels outside of the head that are matrices, of inputs by outputs.

    Those of convolutions have height, width and channels as inputs. A gate's one kernel for all
    channels is a vector.
    """

    def is_matrix(path: Any, leaf: jax.Array) -> bool:
        names = [key.key for key in path]
        axes = leaf.ndim - is_stacked(path)
        return names[-1] == "kernel" and part_of(names) != "head" and axes in (2, 4)

    return jax.tree_util.tree_map_with_path(is_matrix, params)


def is_stacked(path: Any) -> bool:
    """Say whether the first axis of the array at `path` counts scanned blocks."""
    return any(key.key == SCAN for key in path)


def depths(params: Any) -> Any:
    """Return how many parts (stem, layer1, ..., head) lie between each parameter and the output."""
    names = jax.tree_util.tree_map_with_path(
        lambda path, _: part_of(key.key for key in path), params
    )
    parts = sorted(set(jax.tree.leaves(names)), key=_place)
    return jax.tree.map(lambda name: len(parts) - 1 - parts.index(name), names)


def _place(part: str) -> tuple[int, int]:
    name, number = part.rstrip("0123456789"), part[len(part.rstrip("0123456789")) :]
    order = ("stem", "layer", "bottleneck", "decoder", "head")
    # Decoders count down towards the output.
    return order.index(name), int(number or 0) * (-1 if name == "decoder" else 1)
