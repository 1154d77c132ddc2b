"""Observe and change the outputs of a network's blocks from outside."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flax_resnet.errors import InputError
from flax_resnet.models import Network
from flax_resnet.models.blocks import Block, zero_pad_shortcut

# Number of the block, its input, its output -> the output that replaces it.
Change = Callable[[int, jax.Array, jax.Array], jax.Array]


def block_paths(model: Any) -> list[tuple[str, ...]]:
    """Return the path of every residual block, from the first to the last.

    Raises:
      InputError: the blocks of the network are scanned, or it has no residual blocks.
    """
    if not hasattr(model, "order") or model.scan_blocks:
        raise InputError("expected a ResNet without scan_blocks, whose blocks are separate modules")
    return [
        ("stages", str(stage), "blocks", str(number))
        if model.order == "pre"
        else (f"layer{stage + 1}", str(number))
        for stage, count in enumerate(model.stage_sizes)
        for number in range(count)
    ]


def apply_changed(
    model: Network, variables: Mapping[str, Any], images: jax.Array, change: Change, **options: Any
) -> Any:
    """Apply the model with each block's output replaced by `change`; options go to `apply`."""
    numbers = {path: number for number, path in enumerate(block_paths(model))}

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        output = call(*args, **kwargs)
        # Linen intercepts every method of every module.
        if not isinstance(context.module, Block) or context.method_name != "__call__":
            return output
        return change(numbers[context.module.path], args[0], output)

    with nn.intercept_methods(intercept):
        return model.apply(dict(variables), images, **options)


def bypass(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return `x` in the shape of `y`, by the parameter-free shortcut option A."""
    if x.shape == y.shape:
        return x
    return zero_pad_shortcut(x, y.shape[-1], -(-x.shape[1] // y.shape[1]))


def delete_blocks(keep: jax.Array) -> Change:
    """Return a change that keeps the blocks in `keep`, bool (blocks,), and bypasses the others."""
    return lambda number, x, y: jnp.where(keep[number], y, bypass(x, y))


def block_outputs(
    model: Network, variables: Mapping[str, Any], images: jax.Array, **options: Any
) -> list[tuple[jax.Array, jax.Array]]:
    """Return the input and the output of every block."""
    seen: list[tuple[jax.Array, jax.Array]] = []

    def record(number: int, x: jax.Array, y: jax.Array) -> jax.Array:
        seen.append((x, y))
        return y

    apply_changed(model, variables, images, record, **options)
    return seen


def with_deltas(
    model: Network, variables: Mapping[str, Any], images: jax.Array, deltas: list[jax.Array]
) -> jax.Array:
    """Return the logits in training mode with a delta added to each block's output.

    Derivatives with respect to the deltas, at zero, equal those with respect to the outputs.
    """
    logits, _ = apply_changed(
        model,
        variables,
        images,
        lambda number, x, y: y + deltas[number],
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": jax.random.key(0)},
    )
    return logits


def zero_deltas(model: Network, variables: Mapping[str, Any], images: jax.Array) -> list[jax.Array]:
    """Return a delta of zeros for every block."""
    shapes = jax.eval_shape(lambda: block_outputs(model, variables, images))
    return [jnp.zeros(y.shape, y.dtype) for _, y in shapes]


def block_gradients(
    model: Network, variables: Mapping[str, Any], images: jax.Array, labels: jax.Array
) -> jax.Array:
    """Return the norm of the loss's gradient with respect to each block's output, (blocks,)."""

    def loss(deltas: list[jax.Array]) -> jax.Array:
        logits = with_deltas(model, variables, images, deltas)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradients = jax.grad(loss)(zero_deltas(model, variables, images))
    return jnp.stack([jnp.linalg.norm(gradient.ravel()) for gradient in gradients])
