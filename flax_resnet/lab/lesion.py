"""Lesions: residual networks work without some of their blocks, plain networks do not.

Veit et al., arXiv:1605.06431: blocks of a trained network are deleted, or exchanged with others of
their stage, at test time. A deleted block passes its input on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.errors import InputError
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.intervene import apply_changed, block_paths, delete_blocks
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import KINDS, band, counted, legend_below, new_figure
from flax_resnet.models import Network


@dataclass(frozen=True)
class Settings(Training):
    """The networks and the damage done to them."""

    depth: int = 32
    """At this depth plain networks still train; see `degradation`."""
    images: int = 360
    draws: int = 10
    """Random choices for each number of deleted blocks and of exchanges."""
    exchanges: int = 10


SIZES = {
    "small": Settings(),
    "paper": Settings(
        data="cifar10", depth=110, epochs=164, batch_size=128, images=2000, draws=20, exchanges=50
    ),
}


@dataclass(frozen=True)
class Result:
    """Test errors of damaged networks, from 0 to 1.

    Attributes:
      whole: undamaged, by kind and seed.
      one: without one block, by kind, seed and block.
      many: without n = 1, 2 ... random blocks, by kind, seed, draw and n - 1.
      exchanged: after n exchanges of two blocks of a stage, by kind, seed, draw and n - 1.
      first_blocks: numbers of the blocks that change the shape of the maps.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    whole: np.ndarray
    one: np.ndarray
    many: np.ndarray
    exchanged: np.ndarray
    first_blocks: tuple[int, ...]


def run(settings: Settings, track: Track = silent) -> Result:
    """Train networks of both kinds and damage them."""
    if settings.depth < 20:
        raise InputError(
            f"depth is {settings.depth}; expected at least 20, so that blocks can be exchanged"
        )
    count = (settings.depth - 2) // 2
    shape = (len(PLAIN_AND_RESIDUAL), settings.seeds)
    whole, one = np.zeros(shape), np.zeros((*shape, count))
    many = np.zeros((*shape, settings.draws, count))
    exchanged = np.zeros((*shape, settings.draws, settings.exchanges))
    for at, shortcut in enumerate(track(PLAIN_AND_RESIDUAL.values(), "networks")):
        fitter = Fitter(deep_network(settings, settings.depth, shortcut), settings)
        error = damaged_error(fitter.model, *fitter.first_images(settings.images, "test"))
        for seed in range(settings.seeds):
            variables = jax.device_get(fitter.fit(seed).variables)
            rng = np.random.default_rng(seed)
            whole[at, seed] = error(variables, np.ones(count, bool))
            one[at, seed] = [error(variables, np.arange(count) != gone) for gone in range(count)]
            for draw in range(settings.draws):
                order = rng.permutation(count)
                many[at, seed, draw] = [
                    error(variables, ~np.isin(np.arange(count), order[: number + 1]))
                    for number in range(count)
                ]
                mixed = variables
                for number in range(settings.exchanges):
                    mixed = exchange_blocks(fitter.model, mixed, rng)
                    exchanged[at, seed, draw, number] = error(mixed, np.ones(count, bool))
    size = count // 3
    return Result(
        settings.data,
        settings.depth,
        tuple(PLAIN_AND_RESIDUAL),
        whole,
        one,
        many,
        exchanged,
        (size, 2 * size),
    )


def damaged_error(
    model: Network, images: jax.Array, labels: jax.Array
) -> Callable[[Any, np.ndarray], float]:
    """Return a jitted function from variables and the blocks to keep to the error."""

    @jax.jit
    def error(variables: Any, keep: jax.Array) -> jax.Array:
        logits = apply_changed(model, variables, images, delete_blocks(keep))
        return (logits.argmax(-1) != labels).mean()

    return lambda variables, keep: float(error(variables, jnp.asarray(keep)))


def exchange_blocks(model: Any, variables: Any, rng: np.random.Generator) -> Any:
    """Return variables with two random blocks of a stage, not its first, exchanged."""
    stages = [stage for stage, count in enumerate(model.stage_sizes, 1) if count > 2]
    stage = f"layer{rng.choice(stages)}"
    count = len([path for path in block_paths(model) if path[0] == stage])
    one, other = (str(number) for number in rng.choice(np.arange(1, count), 2, replace=False))
    changed = {}
    for collection, parts in variables.items():
        blocks = parts[stage]
        changed[collection] = parts | {stage: blocks | {one: blocks[other], other: blocks[one]}}
    return changed


def finding(result: Result) -> str:
    """Report the error of each kind without one block, without a third, and after exchanges."""
    others = [at for at in range(result.one.shape[-1]) if at not in result.first_blocks]
    third = result.one.shape[-1] // 3
    parts = [
        f"{kind}-{result.depth} misclassifies {result.whole[at].mean():.1%} of the test images, "
        f"{np.median(result.one[at][:, others]):.1%} (median; worst "
        f"{result.one[at][:, others].mean(0).max():.1%}) without one block of equal shapes, "
        f"{result.many[at, ..., third - 1].mean():.1%} without a random third of all, "
        f"{result.exchanged[at, ..., -1].mean():.1%} after {result.exchanged.shape[-1]} exchanges"
        for at, kind in enumerate(result.kinds)
    ]
    return f"On {result.data}, " + "; ".join(parts) + "."


def draw(result: Result) -> Figure:
    """Draw the errors after one deletion, several deletions, and exchanges."""
    figure, axes = new_figure(1, 3, height=3.7, sharey=True)
    one, many, exchanged = axes[0]
    blocks = np.arange(1, result.one.shape[-1] + 1)
    for at, kind in enumerate(result.kinds):
        color, label = KINDS[kind], f"{kind}-{result.depth}"
        band(one, blocks, 100 * result.one[at], color=color, label=label, marker=".")
        one.axhline(100 * result.whole[at].mean(), color=color, linestyle=":", linewidth=1)
        for panel, values in ((many, result.many[at]), (exchanged, result.exchanged[at])):
            flat = 100 * values.reshape(-1, values.shape[-1])
            band(panel, np.arange(1, flat.shape[-1] + 1), flat, color=color, label=label)
    for block in result.first_blocks:
        one.axvline(block + 1, color="gray", linewidth=0.8, linestyle="--")
    one.plot([], [], ":", color="gray", label="whole network")
    one.plot([], [], "--", color="gray", linewidth=0.8, label="changes the shape")
    one.set(title="one block deleted", ylabel="test error in %")
    many.set_title("several blocks deleted")
    exchanged.set_title("blocks exchanged")
    counted(one, "block")
    counted(many, "deleted blocks")
    counted(exchanged, "exchanges of two blocks of a stage")
    for panel in axes[0]:
        legend_below(panel, 2)
    figure.suptitle(f"Lesions at test time on {result.data}: mean and range over seeds and draws")
    return figure
