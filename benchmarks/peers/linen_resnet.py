"""ResNets as one writes them by hand with Flax: `nn.Conv`, `nn.BatchNorm`, `nn.max_pool`, `optax`.

The networks are those of Flax's ImageNet example and of He et al. (arXiv:1512.03385) with the
stride in the 3x3 convolution; parameters and shapes are those of ours.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flax_resnet.errors import InputError
from flax_resnet.models.resnet import ResNet
from flax_resnet.steps.gradient import normalize

# What `LinenResNet` has, and those of its values that it knows, where it does not know all.
_SHARED: dict[str, tuple[Any, ...]] = {
    "stage_sizes": (),
    "widths": (),
    "block": ("basic", "bottleneck"),
    "stem": ("7x7", "cifar"),
    "shortcut": ("projection", "zero_pad"),
    "cardinality": (),
    "base_width": (),
    "num_classes": (),
    "dtype": (),
}
# What changes neither the network nor its results.
_IRRELEVANT = ("image_size", "head_name", "remat", "scan_blocks", "name", "parent")


class LinenBlock(nn.Module):
    """A residual block whose convolutions have these sizes and output channels."""

    sizes: tuple[int, ...]
    widths: tuple[int, ...]
    stride: int
    groups: int
    pads: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        conv = functools.partial(nn.Conv, use_bias=False, dtype=self.dtype)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=self.dtype,
        )
        y, middle = x, len(self.sizes) - 2
        for index, (size, features) in enumerate(zip(self.sizes, self.widths, strict=True)):
            stride, groups = (self.stride, self.groups) if index == middle else (1, 1)
            pad = [(size // 2, size // 2)] * 2
            y = conv(
                features, (size, size), (stride, stride), padding=pad, feature_group_count=groups
            )(y)
            y = norm()(y)
            y = y if index == middle + 1 else nn.relu(y)
        if x.shape != y.shape and self.pads:
            new = y.shape[-1] - x.shape[-1]
            x = jnp.pad(x[:, :: self.stride, :: self.stride], ((0, 0),) * 3 + ((new // 2,) * 2,))
        elif x.shape != y.shape:
            x = norm()(conv(y.shape[-1], (1, 1), (self.stride,) * 2)(x))
        return nn.relu(x + y)


class LinenResNet(nn.Module):
    """A plain residual network; see `flax_resnet.models.resnet.ResNet` for the fields."""

    stage_sizes: tuple[int, ...]
    widths: tuple[int, ...]
    block: str
    stem: str
    shortcut: str
    cardinality: int
    base_width: int
    num_classes: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        small = self.stem == "cifar"
        size, stride = (3, 1) if small else (7, 2)
        pad = [(size // 2, size // 2)] * 2
        x = x.astype(self.dtype)
        x = nn.Conv(
            self.widths[0],
            (size, size),
            (stride, stride),
            pad,
            use_bias=False,
            dtype=self.dtype,
            name="conv1",
        )(x)
        x = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="bn1")(x)
        x = nn.relu(x)
        if not small:
            x = nn.max_pool(x, (3, 3), (2, 2), [(1, 1), (1, 1)])
        for stage, (count, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
            inner = width * self.base_width // 64 * self.cardinality
            bottleneck = self.block == "bottleneck"
            for index in range(count):
                x = LinenBlock(
                    sizes=(1, 3, 1) if bottleneck else (3, 3),
                    widths=(inner, inner, 4 * width) if bottleneck else (width, width),
                    stride=2 if stage and not index else 1,
                    groups=self.cardinality,
                    pads=self.shortcut == "zero_pad",
                    dtype=self.dtype,
                    name=f"layer{stage + 1}_{index}",
                )(x, train)
        x = x.mean((1, 2))
        return nn.Dense(self.num_classes, dtype=jnp.float32, name="fc")(x)


def linen_twin(model: Any) -> LinenResNet:
    """Return the network that equals one of ours.

    Raises:
      InputError: ours has a part that the plain network lacks.
    """
    if not isinstance(model, ResNet):
        raise InputError(
            f"{type(model).__name__} has no Linen peer: leave out --peer, or compare a ResNet"
        )
    for name, field in ResNet.__dataclass_fields__.items():
        value, known = getattr(model, name), _SHARED.get(name, (field.default,))
        if name not in _IRRELEVANT and known and value not in known:
            raise InputError(
                f"{name} is {value!r}, which the plain Linen network lacks: leave out --peer, or "
                "compare another network"
            )
    arguments: dict[str, Any] = {name: getattr(model, name) for name in _SHARED}
    return LinenResNet(**arguments)


Step = Callable[[Any, Any], Any]


def make_step(
    model: LinenResNet,
    optimizer: optax.GradientTransformation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Step:
    """Return the update `((variables, optimizer state), batch) -> (the same, metrics)`."""

    def step(state: Any, batch: Any) -> Any:
        variables, optimizer_state = state

        def loss_fn(params: Any) -> Any:
            images = normalize(batch["image"], mean, std)
            both = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, updates = model.apply(both, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), (logits, updates["batch_stats"])

        params = variables["params"]
        (loss, (logits, stats)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, optimizer_state = optimizer.update(grads, optimizer_state, params)
        accuracy = (logits.argmax(-1) == batch["label"]).mean()
        variables = {"params": optax.apply_updates(params, updates), "batch_stats": stats}
        return (variables, optimizer_state), {"loss": loss, "accuracy": accuracy}

    return step


def make_state(
    model: LinenResNet,
    optimizer: optax.GradientTransformation,
    shape: tuple[int, int, int],
    key: jax.Array,
) -> Any:
    """Return the initial `(variables, optimizer state)` for images of this shape."""
    variables = model.init(key, jnp.zeros((1, *shape)), train=False)
    return variables, optimizer.init(variables["params"])
