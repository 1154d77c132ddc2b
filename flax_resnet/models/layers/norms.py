"""Normalization: over the batch, over groups of channels, or of each channel alone."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.layers.convolution import (
    Dtype,
    Images,
    Initializer,
    along_channels,
    at_least_float32,
)


class BatchNorm(nn.Module):
    """Normalize channels over the batch, or over ghost batches of `group_size` images.

    The running variance is updated with the unbiased estimate, n / (n - 1), as in torch; Flax's own
    layer uses the biased one. Sums are computed in float32 at least. `group_size=None` normalizes
    over the global batch, which under `jit` over a mesh is the batch of all devices. Groups are
    consecutive images, so each stays on one device if `group_size` divides the batch of a device
    (Hoffer et al., arXiv:1705.08741). With groups, running statistics move towards the mean of the
    groups' statistics.

    Raises:
      InputError: the batch is not a multiple of `group_size`, or a group has one value per channel.
    """

    group_size: int | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, train: bool = False) -> Images:
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            mean, var = running_mean.value, running_var.value
            return self._normalize(x, along_channels(mean, x), along_channels(var, x), scale, bias)

        groups = _split_groups(x, self.group_size)
        count = groups.size // (groups.shape[0] * groups.shape[-1])
        if count == 1:
            raise InputError(
                "batch normalization in training mode needs more than one value per channel, "
                f"but a batch-norm group has shape {groups.shape[1:]}: "
                "use a larger batch or image, or train=False"
            )
        mean, var = _moments(groups)
        y = self._normalize(groups, mean, var, scale, bias).reshape(x.shape)
        if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            unbiased = var.mean((0, 1, 2, 3)) * (count / (count - 1))
            running_mean.value += (1 - self.momentum) * (
                mean.mean((0, 1, 2, 3)) - running_mean.value
            )
            running_var.value += (1 - self.momentum) * (unbiased - running_var.value)
        return y

    def _normalize(self, x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
        factor = along_channels(scale, x) * lax.rsqrt(var + self.epsilon)
        # The mean's gradient goes through a sum per channel, which is zero, and not through the
        # centered images, where it would be a second sum over an array written for it alone.
        center = lax.stop_gradient(mean)
        shift = along_channels(bias, x) + (center - mean) * factor
        return ((at_least_float32(x) - center) * factor + shift).astype(self.dtype)


def _split_groups(x: Images, group_size: int | None) -> Float[Array, "g k h w c"]:
    size = x.shape[0] if group_size is None else group_size
    if size < 1 or x.shape[0] % size:
        raise InputError(
            f"a batch of {x.shape[0]} images cannot be split into batch-norm groups of {size}: "
            "make the batch size a multiple of the group size"
        )
    return x.reshape(-1, size, *x.shape[1:])


def _moments(groups: Float[Array, "g k h w c"]) -> tuple[Array, Array]:
    """Return mean and biased variance of each group, shaped to broadcast."""
    wide = at_least_float32(groups)
    axes = (1, 2, 3)
    mean = wide.mean(axes, keepdims=True)
    if wide.shape[2:4] == (1, 1):
        # A second pass over pooled maps is cheap. With few values per channel the difference of
        # squares below can lose all its digits.
        return mean, lax.square(wide - mean).mean(axes, keepdims=True)
    square = lax.square(wide).mean(axes, keepdims=True)
    return mean, jnp.maximum(square - lax.square(mean), 0)


class GroupNorm(nn.Module):
    """Normalize each image over groups of channels (Wu and He, arXiv:1803.08494)."""

    groups: int = 32
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        grouped = _split_channels(at_least_float32(x), self.groups)
        centered = grouped - grouped.mean((1, 2, 4), keepdims=True)
        var = lax.square(centered).mean((1, 2, 4), keepdims=True)
        y = (centered * lax.rsqrt(var + self.epsilon)).reshape(x.shape)
        return _scale_and_shift(self, y).astype(self.dtype)


class FilterResponseNorm(nn.Module):
    """Divide each channel of each image by its root mean square, then threshold it.

    Singh and Krishnan, arXiv:1911.09737. The learned threshold `tau` replaces the activation.
    """

    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, act: bool = True) -> Images:
        wide = at_least_float32(x)
        square = lax.square(wide).mean((1, 2), keepdims=True)
        y = _scale_and_shift(self, wide * lax.rsqrt(square + self.epsilon))
        if act:
            tau = self.param("tau", nn.initializers.zeros, (x.shape[-1],))
            y = jnp.maximum(y, along_channels(tau, y))
        return y.astype(self.dtype)


class EvoNormS0(nn.Module):
    """Gate with a learned sigmoid and divide by the standard deviation of a group of channels.

    Liu et al., arXiv:2004.02967. Without `act` it only scales and shifts, as published.
    """

    groups: int = 32
    epsilon: float = 1e-5
    scale_init: Initializer = nn.initializers.ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images, act: bool = True) -> Images:
        y = at_least_float32(x)
        if act:
            v = self.param("v", nn.initializers.ones, (x.shape[-1],))
            gated = y * jax.nn.sigmoid(y * along_channels(v, y))
            var = _split_channels(y, self.groups).var((1, 2, 4), keepdims=True)
            grouped = _split_channels(gated, self.groups) * lax.rsqrt(var + self.epsilon)
            y = grouped.reshape(x.shape)
        return _scale_and_shift(self, y).astype(self.dtype)


class Affine(nn.Module):
    """Scale and shift channels: a batch norm with its statistics folded into its parameters."""

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: Images) -> Images:
        return _scale_and_shift(self, at_least_float32(x)).astype(self.dtype)


def _scale_and_shift(norm: Any, x: Images) -> Images:
    """Apply the parameters `scale` and `bias` of a norm."""
    shape = (x.shape[-1],)
    scale = norm.param("scale", getattr(norm, "scale_init", nn.initializers.ones), shape)
    bias = norm.param("bias", nn.initializers.zeros, shape)
    return x * along_channels(scale, x) + along_channels(bias, x)


def _split_channels(x: Images, groups: int) -> Float[Array, "n h w g k"]:
    if x.shape[-1] % groups:
        raise InputError(
            f"{x.shape[-1]} channels cannot be split into {groups} groups for normalization: "
            f"choose widths that are multiples of {groups}"
        )
    return x.reshape(*x.shape[:3], groups, -1)
