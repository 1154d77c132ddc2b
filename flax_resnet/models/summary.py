"""Counts that need no data: parameters, statistics, multiply-adds and activations.

Multiply-adds (MACs) are those of convolutions and matrix products only, padding taps included: the
convention of the published tables. XLA's `cost_analysis` leaves padding taps out and counts
elementwise operations.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from flax import traverse_util

from flax_resnet.models.layers import TransposedConv
from flax_resnet.models.receptive import receptive_fields
from flax_resnet.models.variables import (
    example_images,
    part_of,
    require_features,
    unrolled,
    variable_shapes,
)


@dataclass(frozen=True)
class PartSummary:
    """The size and the cost of one part of a network, for one image.

    Attributes:
      shape: height, width and channels of its maps; the number of outputs for the head.
      activations: bytes of the outputs of its convolutions, matrices and norms, in the compute
        dtype.
      receptive_field: side of the square of pixels that one value of its maps depends on; None if
        it depends on all of them.
      stride: distance in pixels between the squares of neighboring values.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int
    activations: int
    receptive_field: int | None
    stride: int | None


def count_parameters(model: nn.Module, collection: str = "params") -> int:
    """Count the scalars of a collection (`params` or `batch_stats`)."""
    return _scalars(variable_shapes(model).get(collection, {}))


def count_macs(model: nn.Module, image_size: int | None = None) -> int:
    """Count the multiply-adds of one image in inference mode."""
    return sum(_count_by_part(unrolled(model), image_size)[1].values())


def count_both(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of parameters and multiply-adds, from one trace of the model."""
    shapes, macs, _ = _count_by_part(unrolled(model), None)
    return _scalars(shapes["params"]), sum(macs.values())


def _scalars(shapes: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def summarize(model: Any, image_size: int | None = None) -> list[PartSummary]:
    """Return a summary of each part of a network, in the order of the computation.

    Args:
      image_size: side of the images; None: the size that the network is designed for.
    """
    require_features(model)
    model = unrolled(model)
    shapes, macs, activations = _count_by_part(model, image_size)
    parameters: Counter[str] = Counter()
    for path, leaf in traverse_util.flatten_dict(shapes["params"]).items():
        parameters[part_of(path)] += math.prod(leaf.shape)
    example = example_images(model, image_size)
    names: list[str] = []  # in order; eval_shape sorts the keys of its result

    def features(variables: Any, images: Any) -> Any:
        maps = model.apply(variables, images, method="features")
        names[:] = maps
        return maps

    maps = jax.eval_shape(features, shapes, example)
    logits = jax.eval_shape(model.apply, shapes, example)

    def outputs(images: Any, variables: Any) -> Any:
        maps = features(variables, images)
        # Logits of pixels have receptive fields too.
        return maps | {"head": model.apply(variables, images)} if len(logits.shape) > 2 else maps

    fields = receptive_fields(outputs, example, shapes)
    rows = {name: maps[name].shape[1:] for name in names} | {"head": logits.shape[1:]}
    return [
        PartSummary(
            name,
            shape,
            parameters[name],
            macs[name],
            activations[name],
            *fields.get(name, (None, None)),
        )
        for name, shape in rows.items()
    ]


def _count_by_part(
    model: nn.Module, image_size: int | None
) -> tuple[dict[str, Any], Counter[str], Counter[str]]:
    """Return the shapes of variables, and multiply-adds and bytes of activations by part."""
    macs: Counter[str] = Counter()
    activations: Counter[str] = Counter()

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        result, module = call(*args, **kwargs), context.module
        if context.method_name != "__call__" or not isinstance(result, jax.Array):
            return result
        part = part_of(module.path)
        if module.has_variable("params", "kernel"):
            kernel = module.get_variable("params", "kernel")
            # The whole kernel is applied at every pixel: of the output, or of a transposed input.
            map_ = args[0] if isinstance(module, TransposedConv) else result
            macs[part] += map_.size // kernel.shape[-1] * kernel.size
        if module.has_variable("params", "kernel") or module.has_variable("params", "scale"):
            activations[part] += result.size * result.dtype.itemsize
        return result

    with nn.intercept_methods(record):
        example = example_images(model, image_size)
        shapes = jax.eval_shape(model.init, jax.random.key(0), example)
    return dict(shapes), macs, activations
