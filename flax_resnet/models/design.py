"""Argument checks, scopes, layers and block designs, shared by all networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from flax_resnet.errors import InputError, require_known
from flax_resnet.models.layers import (
    Affine,
    BatchNorm,
    Conv,
    Dtype,
    EvoNormS0,
    FilterResponseNorm,
    GroupNorm,
    Images,
    Initializer,
    he_normal,
)
from flax_resnet.models.variables import selected

RATES = ("drop_path", "drop_block", "block_dropout", "layer_dropout", "dropout")
LEAST = {
    "num_classes": 0,
    "in_channels": 1,
    "image_size": 1,
    "norm_group": 1,
    "base_width": 1,
    "depth": 1,
}


def check_arguments(network: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Raise `InputError` if an argument of a network has a value that is not allowed.

    Args:
      choices: the allowed words of each argument; None is allowed too if it is the default.
    """
    known = type(network).__dataclass_fields__
    for name, allowed in choices.items():
        value = getattr(network, name)
        if value is not None or known[name].default is not None:
            require_known(name, value, allowed)
    for name in RATES:
        if name in known and not 0 <= getattr(network, name) < 1:
            raise InputError(f"{name} is {getattr(network, name)}; expected 0 or more, below 1")
    for name, least in LEAST.items():
        value = getattr(network, name, None)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; expected {least} or more")


def check_images(images: Array, network: Any) -> None:
    """Raise `InputError` unless the network accepts images of this shape."""
    if images.ndim != 4 or images.shape[-1] != network.in_channels or 0 in images.shape:
        raise InputError(
            f"images have shape {images.shape}, but the network takes (n, height, width, "
            f"{network.in_channels}) with no empty axis: arrange them as NHWC or pass "
            "in_channels= to create_model"
        )
    size = network.image_size
    if network.pool == "flatten" and images.shape[1:3] != (size, size):
        raise InputError(
            f"images are {images.shape[1]}x{images.shape[2]}, but a flattening head is made "
            f"for {size}x{size}: resize them or pass image_size="
        )


class Scope(nn.Module):
    """Run a function whose layers are named inside this scope.

    Published keys such as `stages.0.blocks.1.conv1` have levels that compute nothing.
    """

    @nn.compact
    def __call__(self, body: Callable[..., Any], *args: Any) -> Any:
        return body(*args)


def within(names: tuple[str, ...], body: Callable[..., Any], *args: Any) -> Any:
    """Run `body(*args)` inside nested scopes of these names, the outermost first."""
    if not names:
        return body(*args)
    return Scope(name=names[0])(within, names[1:], body, *args)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "identity": lambda x: x,
}
# Norms without running statistics, and whether they include a nonlinearity.
_NORMS: dict[str, tuple[Any, bool]] = {
    "group": (GroupNorm, False),
    "frn": (FilterResponseNorm, True),
    "evonorm_s0": (EvoNormS0, True),
}
NORMS = ("batch", *_NORMS, "folded", "none")


@dataclass(frozen=True)
class Layers:
    """Create a network's convolutions, norms and activations; see `ResNet` for the fields."""

    train: bool = False
    dtype: Dtype = jnp.float32
    norm: str = "batch"
    norm_group: int | None = None
    frozen: str = ""
    activation: str = "relu"
    standardize: float | None = None
    kernel_init: Initializer = he_normal

    @classmethod
    def of(cls, network: Any, train: bool, **others: Any) -> "Layers":
        """Return the layers that are configured by the arguments of a network."""
        names = {field.name for field in fields(cls)} & type(network).__dataclass_fields__.keys()
        return cls(train=train, **{name: getattr(network, name) for name in names}, **others)

    def conv(
        self,
        features: int,
        size: int,
        name: str,
        *,
        normed: bool = True,
        biased: bool = False,
        zero: bool = False,
        **kw: Any,
    ) -> Conv:
        """Return a convolution.

        Args:
          normed: whether a norm follows it directly.
          biased: give it a bias. It also has one if its norm is folded, or the network has none.
          zero: initialize its kernel to zero.
        """
        biased = biased or self.norm == "none" or (normed and self.norm == "folded")
        return Conv(
            features,
            size,
            use_bias=biased,
            standardize=self.standardize,
            kernel_init=nn.initializers.zeros if zero else self.kernel_init,
            dtype=self.dtype,
            name=name,
            **kw,
        )

    def normalize(
        self,
        x: Images,
        name: str,
        *,
        act: bool = True,
        after_conv: bool = True,
        zero: bool = False,
        drop: Callable[[Images], Images] = lambda x: x,
    ) -> Images:
        """Apply the norm called `name` and, with `act`, the activation.

        Args:
          after_conv: whether the norm follows a convolution, into which it can be folded.
          zero: initialize its scale to zero.
          drop: function applied between the norm and the activation.
        """
        activate = ACTIVATIONS[self.activation] if act else ACTIVATIONS["identity"]
        scale_init = nn.initializers.zeros if zero else nn.initializers.ones
        if self.norm == "none" or (self.norm == "folded" and after_conv):
            return activate(drop(x))
        if self.norm == "folded":
            return activate(drop(Affine(self.dtype, name=name)(x)))
        if self.norm == "batch":
            norm = BatchNorm(self.norm_group, scale_init=scale_init, dtype=self.dtype, name=name)
            return activate(drop(norm(x, self.train and not selected(self.frozen, norm.path))))
        kind, activates = _NORMS[self.norm]
        norm = kind(scale_init=scale_init, dtype=self.dtype, name=name)
        return drop(norm(x, act)) if activates else activate(drop(norm(x)))

    def conv_norm(
        self,
        x: Images,
        features: int,
        size: int,
        names: tuple[str, str],
        *,
        act: bool = True,
        zero: bool = False,
        drop: Callable[[Images], Images] = lambda x: x,
        **kw: Any,
    ) -> Images:
        """Convolve, normalize and activate; `names` are those of the convolution and the norm."""
        x = self.conv(features, size, names[0], **kw)(x)
        return self.normalize(x, names[1], act=act, zero=zero, drop=drop)


@dataclass(frozen=True)
class Design:
    """How the blocks of a network are built; see `ResNet` for the fields."""

    order: str = "post"
    middle: str = "conv"
    shortcut: str = "projection"
    carry_bias: float = -2.0
    cardinality: int = 1
    base_width: int = 64
    reduce_first: int = 1
    radix: int = 1
    scale: int = 1
    split_input: bool = False
    gate: str = "none"
    gate_ratio: float = 1 / 16
    gate_divisor: int = 8
    anti_alias: str = "none"
    zero_init_last: bool = False
    drop_path: float = 0.0
    block_dropout: float = 0.0
    drop_block: tuple[float, int, float] | None = None
    """Rate, size of the squares and scale of DropBlock in this stage; see `DropBlock`."""
