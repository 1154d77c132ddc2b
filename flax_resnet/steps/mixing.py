"""Mixup and cutmix: mix images of a batch with each other, on the device."""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flax_resnet.errors import InputError, require_known

PER = ("batch", "pair", "element")
# Partners are among the same 16 consecutive images, 8 apart: no image moves between devices if each
# has a multiple of 16. Repeats of a record are further apart than 8 in batches that are large
# enough; `check_pairs` of training/setup.py checks smaller ones.
NEIGHBOURS = 16
Rows = TypeVar("Rows", jax.Array, np.ndarray)


@dataclass(frozen=True)
class MixConfig:
    """Settings of mixup and cutmix; with both on, each draw chooses one of them."""

    mixup: float = 0.0
    """Alpha of the Beta distribution of the mixing share in mixup (arXiv:1710.09412), which
    averages two images; 0: off."""
    cutmix: float = 0.0
    """Alpha of the Beta distribution of the area kept in cutmix (arXiv:1905.04899), which pastes a
    box from another image; 0: off."""
    cutmix_frequency: float = 0.5
    """Probability of cutmix instead of mixup, with both on."""
    frequency: float = 1.0
    """Probability that images are mixed at all."""
    per: str = "batch"
    """batch | pair | element: what shares one draw; a pair is two images mixed with each other."""

    def __post_init__(self) -> None:
        """Check that the values define distributions."""
        for name in ("mixup", "cutmix"):
            if getattr(self, name) < 0:
                value = getattr(self, name)
                raise InputError(f"config.mix.{name} is {value}; expected 0 or a positive number")
        for name in ("cutmix_frequency", "frequency"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"config.mix.{name} is {getattr(self, name)}; expected 0 to 1")
        require_known("config.mix.per", self.per, PER)

    @property
    def active(self) -> bool:
        """Return whether any images are mixed."""
        return self.frequency > 0 and (self.mixup > 0 or self.cutmix > 0)


class Draws(NamedTuple):
    """The random draws for every image of a batch.

    Attributes:
      share: the weight of the image itself in the mix; with cutmix, its area outside the box.
      cuts: whether cutmix is used instead of mixup.
      box: top, bottom, left, right; rows top to bottom - 1 are pasted, columns likewise.
    """

    share: Float[Array, " n"]
    cuts: Bool[Array, " n"]
    box: Int[Array, "4 n"]


def draw(key: jax.Array, config: MixConfig, count: int, height: int, width: int) -> Draws:
    """Draw how to mix `count` images.

    A box that crosses the border is clipped, and the share is computed from the clipped box.
    """
    draws = {"batch": 1, "pair": count // 2, "element": count}[config.per]
    keys = jax.random.split(key, 6)
    if config.mixup and config.cutmix:
        cuts = jax.random.bernoulli(keys[0], config.cutmix_frequency, (draws,))
        share = jnp.where(
            cuts, _beta(keys[1], config.cutmix, draws), _beta(keys[2], config.mixup, draws)
        )
    else:
        cuts = jnp.full(draws, config.cutmix > 0)
        share = _beta(keys[1], config.cutmix or config.mixup, draws)
    share = jnp.where(jax.random.bernoulli(keys[3], config.frequency, (draws,)), share, 1)
    side = jnp.sqrt(1 - share)
    top, bottom = _edges(keys[4], side, height)
    left, right = _edges(keys[5], side, width)
    area = (bottom - top) * (right - left)
    share = jnp.where(cuts, 1 - area / (height * width), share)
    box = jnp.stack([top, bottom, left, right])
    return jax.tree.map(lambda leaf: _for_all(leaf, count, config.per), Draws(share, cuts, box))


def mix(batch: dict[str, jax.Array], key: jax.Array, config: MixConfig) -> dict[str, jax.Array]:
    """Mix the images of a batch; the result does not depend on the number of devices.

    Returns:
      The batch with the mixed `image`, with `partner`, the labels of the images mixed in, and
      `share`, the weight of each image's own label in its target. `label` stays an integer.
    """
    images, labels = batch["image"], batch["label"]
    draws = draw(key, config, *images.shape[:3])
    mixed = blend(images, draws)
    return batch | {"image": mixed, "partner": partners(labels), "share": draws.share}


def blend(images: Float[Array, "n h w c"], draws: Draws) -> Float[Array, "n h w c"]:
    """Return every image mixed with its partner according to `draws`."""
    top, bottom, left, right = (edge[:, None] for edge in draws.box)
    rows, columns = (jnp.arange(size)[None] for size in images.shape[1:3])
    inside = ((top <= rows) & (rows < bottom))[:, :, None]
    inside &= ((left <= columns) & (columns < right))[:, None]
    cuts, share = (each[:, None, None] for each in (draws.cuts, draws.share))
    own = jnp.where(cuts, ~inside, share)[..., None].astype(images.dtype)
    return images * own + partners(images) * (1 - own)


def partners(x: Rows) -> Rows:
    """Return for every row of a batch the row it is mixed with; pairs are mutual.

    In each group of 16 consecutive rows it is the row 8 away. If the number of rows is not a
    multiple of 16, groups have the largest power of two that divides it; `check_pairs` makes sure
    that this is even.
    """
    pairs = x.reshape(len(x) // _group(len(x)), 2, _group(len(x)) // 2, *x.shape[1:])
    return pairs[:, ::-1].reshape(x.shape)


def _group(count: int) -> int:
    return math.gcd(count, NEIGHBOURS)


def _beta(key: jax.Array, alpha: float, draws: int) -> Float[Array, " draws"]:
    if alpha == 1:
        return jax.random.uniform(key, (draws,))
    return jax.random.beta(key, alpha, alpha, (draws,))


def _edges(key: jax.Array, side: Float[Array, " n"], size: int) -> tuple[Array, Array]:
    length = (size * side).astype(jnp.int32)
    center = jax.random.randint(key, side.shape, 0, size)
    return jnp.clip(center - length // 2, 0, size), jnp.clip(center + length // 2, 0, size)


def _for_all(drawn: Array, count: int, per: str) -> Array:
    """Assign a draw to every image, along the last axis."""
    leading = drawn.shape[:-1]
    if per == "batch":
        return jnp.broadcast_to(drawn, (*leading, count))
    if per == "element":
        return drawn
    group = _group(count)
    pairs = drawn.reshape(*leading, count // group, 1, group // 2)
    both = jnp.broadcast_to(pairs, (*leading, count // group, 2, group // 2))
    return both.reshape(*leading, count)
