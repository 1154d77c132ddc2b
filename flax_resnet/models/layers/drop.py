"""Layers that drop parts of a network in training; they draw from the rng `dropout`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flax_resnet.models.layers.convolution import Images


class DropPath(nn.Module):
    """Drop a branch for some of the images, scale it up for the others (arXiv:1603.09382)."""

    @nn.compact
    def __call__(self, x: Images, rate: float | Float[Array, ""]) -> Images:
        keep = 1 - jnp.asarray(rate, jnp.float32)
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, (x.shape[0], 1, 1, 1))
        return x * (kept / keep).astype(x.dtype)


class DropBlock(nn.Module):
    """Drop squares of the map, in all channels at once (Ghiasi et al., arXiv:1810.12890).

    Centers are drawn with the probability that would drop `rate * scale` of the pixels if squares
    never overlapped. The remaining values are scaled up to keep the expected sum.
    """

    rate: float
    size: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, x: Images) -> Images:
        batch, height, width, _ = x.shape
        rows, columns = min(self.size, height), min(self.size, width)
        places = (height - rows + 1) * (width - columns + 1)
        probability = self.scale * self.rate * height * width / (rows * columns * places)
        shape = (batch, height, width, 1)
        centers = jax.random.bernoulli(self.make_rng("dropout"), min(probability, 1.0), shape)
        dropped = lax.reduce_window(
            centers.astype(jnp.float32),
            0.0,
            lax.max,
            (1, rows, columns, 1),
            (1, 1, 1, 1),
            [(0, 0), ((rows - 1) // 2, rows // 2), ((columns - 1) // 2, columns // 2), (0, 0)],
        )
        kept = 1 - lax.stop_gradient(dropped)
        return x * (kept * (kept.size / (kept.sum() + 1e-7))).astype(x.dtype)
