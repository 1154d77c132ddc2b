"""A run of blocks: one after the other, or as one scanned block."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_resnet.models.blocks import Block
from flax_resnet.models.layers import Images

SCAN = "scan"  # the scanned blocks' name


def run_blocks(
    x: Images,
    blocks: Sequence[Mapping[str, Any]],
    rates: Sequence[float],
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
