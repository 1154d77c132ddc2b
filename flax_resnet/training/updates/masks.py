"""Which parameters a rule of the optimiser reaches, by their names."""

from typing import Any

import jax
import optax

from flax_resnet.models.parts import part_of


def decay_mask(params: Any) -> Any:
    """Mark the parameters that weight decay reaches: kernels, but no bias and no norm."""
    # By name and not by axes: in scanned blocks the vectors of a norm are stacked to a matrix.
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def matrix_axes(params: Any) -> Any:
    """Return how each kernel outside of the head is a matrix of inputs by outputs; None elsewhere.

    The kernel of a convolution, (height, width, in, out), has all but its last axis as inputs. What
    comes before these axes, in scanned blocks, counts separate matrices.
    """

    def axes(path: Any, leaf: jax.Array) -> optax.contrib.MuonDimensionNumbers | None:
        names = [key.key for key in path]
        if names[-1] != "kernel" or part_of(names) == "head":
            return None
        inputs = (0,) if leaf.ndim == 2 else tuple(range(leaf.ndim - 4, leaf.ndim - 1))
        return optax.contrib.MuonDimensionNumbers(inputs, (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, params)


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
