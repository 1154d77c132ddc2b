"""Identity: blocks start near it and training moves them away; blocks of zeros equal it.

A residual block computes x + F(x), so its distance from the identity is |F(x)| / |x|. Networks
whose last norm of each block starts at zero (Goyal et al., arXiv:1706.02677) start as the identity.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.intervene import block_outputs, bypass
from flax_resnet.lab.networks import deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import COLORS, band, counted, new_figure
from flax_resnet.models import Network

# The initial scale of each block's last norm -> `zero_init_last`.
KINDS = {"one": False, "zero": True}


@dataclass(frozen=True)
class Settings(Training):
    """The networks to measure."""

    depth: int = 32
    images: int = 128
    added: int = 3
    """Number of zero blocks to add to each stage."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", depth=110, epochs=164, batch_size=128, images=512, added=9),
}


@dataclass(frozen=True)
class Result:
    """Distances from the identity, and how far zero blocks move the logits.

    Attributes:
      kinds: initial scale of the last norm of each block.
      distance: |block(x) - x| / |x| by kind, seed, epoch (the first is before training) and block.
      first_blocks: numbers of the blocks that change the shape of the maps.
      moved: largest change of a logit, relative to the largest logit, after adding zero blocks
        at the end or the start of each stage, and after adding random blocks.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    distance: np.ndarray
    first_blocks: tuple[int, ...]
    added: int
    moved: dict[str, float]


def run(settings: Settings, track: Track = silent) -> Result:
    """Train networks of both kinds, measure their blocks, and add blocks to one of them."""
    count = (settings.depth - 2) // 2
    distance = np.zeros((len(KINDS), settings.seeds, settings.epochs + 1, count))
    fitters = [
        Fitter(deep_network(settings, settings.depth, "zero_pad", zero_init_last=zero), settings)
        for zero in KINDS.values()
    ]
    images, _ = fitters[0].first_images(settings.images)
    watches = [jax.jit(functools.partial(distances, each.model, images)) for each in fitters]
    for at, seed in track(np.ndindex(len(fitters), settings.seeds), "networks"):
        fitted = fitters[at].fit(seed, watches[at])
        distance[at, seed] = fitted.watched
    size = count // 3
    moved = lengthening(settings, fitted.variables, images)
    return Result(
        settings.data,
        settings.depth,
        tuple(KINDS),
        distance,
        (size, 2 * size),
        settings.added,
        moved,
    )


def distances(model: Network, images: jax.Array, variables: Any) -> jax.Array:
    """Return |block(x) - x| / |x| of every block, (blocks,); x is padded to the output's shape."""
    pairs = [(bypass(x, y), y) for x, y in block_outputs(model, variables, images)]
    return jnp.stack([jnp.linalg.norm(y - x) / jnp.linalg.norm(x) for x, y in pairs])


def lengthening(settings: Settings, variables: Any, images: jax.Array) -> dict[str, float]:
    """Return the largest relative change of a trained network's logits due to added blocks."""
    short = deep_network(settings, settings.depth, "zero_pad", zero_init_last=True)
    deeper = settings.depth + 6 * settings.added
    moved = {}
    before: Any = jax.jit(short.apply)(variables, images)
    for name, zero, first in (
        ("zero blocks behind", True, False),
        ("zero blocks before", True, True),
        ("random blocks behind", False, False),
    ):
        long = deep_network(settings, deeper, "zero_pad", zero_init_last=zero)
        fresh = jax.jit(long.init)(jax.random.key(0), images[:1])
        joined = insert_blocks(variables, fresh, settings.added, first)
        after: Any = jax.jit(long.apply)(joined, images)
        moved[name] = float(jnp.abs(after - before).max() / jnp.abs(before).max())
    return moved


def insert_blocks(variables: Any, fresh: Any, added: int, first: bool) -> Any:
    """Return the variables of a deeper network with the blocks of a shallower one.

    Args:
      fresh: variables of the deeper network.
      added: the number of additional blocks in each of its stages.
      first: put them right after the stage's first block instead of at the end of the stage.
    """
    joined = {}
    for collection, parts in fresh.items():
        joined[collection] = dict(parts)
        for part, old in variables[collection].items():
            if not part.startswith("layer"):
                joined[collection][part] = old
                continue
            stage = dict(parts[part])
            for number, block in old.items():
                shift = added if first and int(number) else 0
                stage[str(int(number) + shift)] = block
            joined[collection][part] = stage
    return joined


def finding(result: Result) -> str:
    """Report the distances before and after training, and the effect of added blocks."""
    others = [k for k in range(result.distance.shape[-1]) if k not in result.first_blocks]
    parts = []
    for kind, distance in zip(result.kinds, result.distance, strict=True):
        start, end = distance[:, 0][:, others].mean(), distance[:, -1][:, others].mean()
        parts.append(f"from {start:.2f} to {end:.2f} where the last norm starts at {kind}")
    zero = max(result.moved["zero blocks behind"], result.moved["zero blocks before"])
    return (
        f"On {result.data}, training moves the mean |F(x)| / |x| of a block, which is its distance "
        "from the identity, "
        + " and ".join(parts)
        + f"; {3 * result.added} added zero blocks change the logits of the trained network by "
        f"{zero:.1g} of the largest at either position, random blocks by "
        f"{result.moved['random blocks behind']:.2g}."
    )


def draw(result: Result) -> Figure:
    """Draw distances by block and by epoch, and the effect of added blocks."""
    figure, axes = new_figure(1, 3)
    by_block, over_time, added = axes[0]
    blocks = np.arange(1, result.distance.shape[-1] + 1)
    epochs = np.arange(result.distance.shape[2])
    others = [block - 1 for block in blocks if block - 1 not in result.first_blocks]
    for kind, color, distance in zip(result.kinds, COLORS, result.distance, strict=False):
        band(by_block, blocks, distance[:, 0], color=color, linestyle=":")
        band(by_block, blocks, distance[:, -1], color=color, label=f"last norm from {kind}")
        mean = distance[..., others].mean(-1)
        band(over_time, epochs, mean, color=color, label=f"last norm from {kind}")
    by_block.plot([], [], ":", color="gray", label="before training")
    by_block.set(title="by block", ylabel="|F(x)| / |x|", ylim=(0, None))
    over_time.set(title="mean over blocks", ylabel="|F(x)| / |x|", ylim=(0, None))
    counted(by_block, "block")
    counted(over_time, "epoch")
    for panel in (by_block, over_time):
        panel.legend()
    names = list(result.moved)
    floor = 1e-9  # so that a change of zero has a bar too
    heights = [max(result.moved[name], floor) for name in names]
    added.bar(range(len(names)), heights, color=COLORS[2], width=0.6)
    for at, name in enumerate(names):
        exact = result.moved[name] == 0
        text = "exactly 0" if exact else f"{result.moved[name]:.1g}"
        added.text(at, heights[at] * 1.3, text, ha="center", va="bottom")
    added.set(
        title=f"{3 * result.added} blocks added to the trained network",
        ylabel="largest change of a logit",
        yscale="log",
        ylim=(floor, 100),
        xticks=range(len(names)),
        xticklabels=[name.replace(" blocks ", "\n") for name in names],
    )
    figure.suptitle(f"Distance from the identity: residual-{result.depth} on {result.data}")
    return figure
