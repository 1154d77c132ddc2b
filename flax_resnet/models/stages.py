"""A run of blocks, unrolled or scanned, and the way between the two layouts of its variables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from flax_resnet.models.blocks import Block
from flax_resnet.models.layers import Images

SCAN = "scan"


def run_blocks(
    x: Images,
    blocks: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
    *,
    remat: bool,
    scan: bool,
) -> Images:
    """Apply blocks called `0`, `1` ... in the calling scope.

    Args:
      blocks: arguments of each block; the first one may change the map's shape.
      rates: how often each block's branch is dropped in training.
      remat: compute the inside of each block a second time for the gradient, and do not keep it.
      scan: apply equal blocks as one scanned block, whose variables are stacked under `scan`.
    """
    first, *others = blocks
    # Inside a scan nothing can merge the two computations, so nothing need prevent it.
    make: Callable[..., Any] = nn.remat(Block, prevent_cse=not scan) if remat else Block
    x = make(**first, name="0")(x, rates[0])
    if not scan or len(others) < 2:
        for number, arguments in enumerate(others, 1):
            x = make(**arguments, name=str(number))(x, rates[number])
        return x

    def step(block: nn.Module, x: Images, rate: jax.Array) -> tuple[Images, None]:
        return block(x, rate), None

    scanned = nn.scan(
        step,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=len(others),
    )
    return scanned(make(**others[0], name=SCAN), x, jnp.asarray(rates[1:]))[0]


def to_layout(variables: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of a network in the layout of `shapes`: unrolled or scanned.

    Both are the same numbers: block `k` of a stage is entry `k - 1` of its `scan`.

    Args:
      shapes: what `variable_shapes` gives for the network in the layout that is wanted.
    """
    leaves = _unrolled(traverse_util.flatten_dict(dict(variables)))
    wanted = traverse_util.flatten_dict(dict(shapes))
    result = {}
    for path, shape in wanted.items():
        if SCAN not in path:
            result |= {path: leaves.pop(path)} if path in leaves else {}
            continue
        members = [_numbered(path, number + 1) for number in range(shape.shape[0])]
        if all(member in leaves for member in members):
            result[path] = _stack([leaves.pop(member) for member in members])
    return dict(traverse_util.unflatten_dict(result | leaves))


def _unrolled(leaves: Mapping[tuple[str, ...], Any]) -> dict[tuple[str, ...], Any]:
    result = {}
    for path, leaf in leaves.items():
        if SCAN in path:
            result |= {_numbered(path, number): part for number, part in enumerate(leaf, 1)}
        else:
            result[path] = leaf
    return result


def _numbered(path: tuple[str, ...], number: int) -> tuple[str, ...]:
    return tuple(str(number) if name == SCAN else name for name in path)


def _stack(leaves: list[Any]) -> Any:
    return np.stack(leaves) if isinstance(leaves[0], np.ndarray) else jnp.stack(leaves)
