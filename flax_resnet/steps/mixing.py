"""Mixup and cutmix: images of a batch that are mixed with each other, on the device."""

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from flax_resnet.errors import InputError, require_known

PER = ("batch", "pair", "element")
# Partners lie in the same so many consecutive images: where a device has a multiple of them, no
# image crosses to another. Half of it apart: from so many examples on, that is nearer than any of
# a record's repeats; `check_pairs` of the set-up looks at smaller batches.
NEIGHBOURS = 16
Rows = TypeVar("Rows", jax.Array, np.ndarray)


@dataclass(frozen=True)
class MixConfig:
    """Choose how training images of one class each are mixed; where both ways are on, in turns."""

    mixup: float = 0.0
    """Alpha of the Beta distribution of the shares in mixup (arXiv:1710.09412), which adds two
    images; 0: none."""
    cutmix: float = 0.0
    """Alpha of that of the areas in cutmix (arXiv:1905.04899), which pastes a box of another
    image; 0: none."""
    cutmix_frequency: float = 0.5
    """How often it is cutmix, where both are on."""
    frequency: float = 1.0
    """How often images are mixed at all."""
    per: str = "batch"
    """batch | pair | element: what has draws of its own; a pair is two images mixed with each
    other."""

    def __post_init__(self) -> None:
        """Refuse what is no distribution."""
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
        """Say whether anything is mixed."""
        return self.frequency > 0 and (self.mixup > 0 or self.cutmix > 0)


class Draws(NamedTuple):
    """What is drawn for every image of a batch.

    Attributes:
      share: of the image itself in what it becomes; by cutmix the part outside of the box.
      cuts: whether it is cutmix.
      box: top, bottom, left, right; what is pasted are rows from top to before bottom.
    """

    share: Float[Array, " n"]
    cuts: Bool[Array, " n"]
    box: Int[Array, "4 n"]


def draw(key: jax.Array, config: MixConfig, count: int, height: int, width: int) -> Draws:
    """Draw how to mix so many images.

    A box whose centre is near the border is cut off there, and the share is that of what is left.
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
    """Mix the images of a batch; the same on any number of devices.

    Returns:
      The batch with mixed `image` and with `partner`, the labels of the others, and `share`, that
      of each image's own label in its target: `label` stays whole numbers.
    """
    images, labels = batch["image"], batch["label"]
    draws = draw(key, config, *images.shape[:3])
    mixed = blend(images, draws)
    return batch | {"image": mixed, "partner": partners(labels), "share": draws.share}


def blend(images: Float[Array, "n h w c"], draws: Draws) -> Float[Array, "n h w c"]:
    """Return every image mixed with its partner, as drawn."""
    top, bottom, left, right = (edge[:, None] for edge in draws.box)
    rows, columns = (jnp.arange(size)[None] for size in images.shape[1:3])
    inside = ((top <= rows) & (rows < bottom))[:, :, None]
    inside &= ((left <= columns) & (columns < right))[:, None]
    cuts, share = (each[:, None, None] for each in (draws.cuts, draws.share))
    own = jnp.where(cuts, ~inside, share)[..., None].astype(images.dtype)
    return images * own + partners(images) * (1 - own)


def partners(x: Rows) -> Rows:
    """Return for every row of a batch the one that it is mixed with; that one gets it in turn.

    Among 16 consecutive rows it is the one 8 away; where their number is no multiple of 16, among
    the largest power of two that divides it: an even number, as `check_pairs` has it.
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
    centre = jax.random.randint(key, side.shape, 0, size)
    return jnp.clip(centre - length // 2, 0, size), jnp.clip(centre + length // 2, 0, size)


def _for_all(drawn: Array, count: int, per: str) -> Array:
    """Give every image its draw; the last axis is that of the draws."""
    leading = drawn.shape[:-1]
    if per == "batch":
        return jnp.broadcast_to(drawn, (*leading, count))
    if per == "element":
        return drawn
    group = _group(count)
    pairs = drawn.reshape(*leading, count // group, 1, group // 2)
    both = jnp.broadcast_to(pairs, (*leading, count // group, 2, group // 2))
    return both.reshape(*leading, count)
