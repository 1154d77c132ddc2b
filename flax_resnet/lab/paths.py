"""Paths: a network of n blocks has 2^n paths, and the short ones carry the gradient.

Veit et al., arXiv:1605.06431, section 4.3: a path passes the branches of k of the blocks and the
shortcuts of the others. The number of paths of each length is binomial. The gradient of one path is
measured by passing only the branches of k random blocks, and only the shortcuts of the rest.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.intervene import apply_changed
from flax_resnet.lab.networks import deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import COLORS, band, counted, new_figure
from flax_resnet.models import Network


@dataclass(frozen=True)
class Settings(Training):
    """The network to measure."""

    seeds: int = 1
    depth: int = 56
    images: int = 64
    draws: int = 20
    """Number of random paths of each length."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", depth=110, epochs=164, batch_size=128, images=256, draws=100),
}


@dataclass(frozen=True)
class Result:
    """Paths by length, which is the number of branches that they pass, 0 to n.

    Attributes:
      count: number of paths, as a fraction of all, (n + 1,).
      gradient: norm of the loss's gradient with respect to the images along one path, by seed,
        draw and length.
    """

    data: str
    depth: int
    count: np.ndarray
    gradient: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train a pre-activation network, whose shortcuts are pure sums, and measure its paths."""
    model = deep_network(settings, settings.depth, "projection", order="pre")
    fitter = Fitter(model, settings)
    total = len(equal_blocks(model))
    images, labels = fitter.first_images(settings.images)
    measure = path_gradient(model, images, labels)
    gradient = np.zeros((settings.seeds, settings.draws, total + 1))
    for seed in range(settings.seeds):
        variables = fitter.fit(seed).variables
        rng = np.random.default_rng(seed)
        for draw in track(range(settings.draws), "random paths"):
            order = rng.permutation(total)
            gradient[seed, draw] = [
                measure(variables, jnp.asarray(order < length)) for length in range(total + 1)
            ]
    count = np.array([math.comb(total, length) for length in range(total + 1)]) / 2**total
    return Result(settings.data, settings.depth, count, gradient)


def equal_blocks(model: Any) -> list[int]:
    """Return the numbers of the blocks whose shortcut is the identity."""
    starts = np.cumsum((0, *model.stage_sizes[:-1]))
    return [at for at in range(sum(model.stage_sizes)) if at == 0 or at not in starts]


def path_gradient(
    model: Network, images: jax.Array, labels: jax.Array
) -> Callable[[Any, jax.Array], jax.Array]:
    """Return a jitted function from variables and branches, bool (n,), to the gradient's norm.

    The forward pass is unchanged. In the backward pass the gradient flows only through the branch
    of the marked blocks and only through the shortcut of the others; the few blocks that change the
    shape pass all of it.
    """
    places = {block: place for place, block in enumerate(equal_blocks(model))}

    @jax.jit
    def measure(variables: Any, branches: jax.Array) -> jax.Array:
        def choose(number: int, x: jax.Array, y: jax.Array) -> jax.Array:
            if number not in places:
                return y
            stop = jax.lax.stop_gradient
            through, around = y - x + stop(x), stop(y - x) + x
            return jnp.where(branches[places[number]], through, around)

        def loss(images: jax.Array) -> jax.Array:
            logits = apply_changed(model, variables, images, choose)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        # Scaled first: the squares of a long path's gradient underflow in float32.
        gradient = jax.grad(loss)(images)
        largest = jnp.maximum(jnp.abs(gradient).max(), jnp.finfo(gradient.dtype).tiny)
        return largest * jnp.linalg.norm((gradient / largest).ravel())

    return measure


def carried(result: Result) -> np.ndarray:
    """Return the fraction of the gradient that all paths of each length carry, (n + 1,)."""
    weight = result.count * result.gradient.mean((0, 1))
    share: np.ndarray = weight / weight.sum()
    return share


def finding(result: Result) -> str:
    """Report the lengths of all paths, and of the paths that carry the gradient."""
    lengths = np.arange(len(result.count))
    share = carried(result)
    mean = float(lengths @ result.count)
    low, high = np.searchsorted(share.cumsum(), (0.05, 0.95))
    gradient = result.gradient.mean((0, 1))
    ratio = gradient[-1] / gradient[0]
    return (
        f"The {len(lengths) - 1} identity shortcuts of residual-{result.depth} on {result.data} "
        f"make 2^{len(lengths) - 1} paths through {mean:.1f} branches on average, but 90% of the "
        f"gradient flows along paths through {low} to {high} branches (mean "
        f"{lengths @ share:.1f}): the path through every branch carries {ratio:.1g} times the "
        "gradient of the path through none."
    )


def draw(result: Result) -> Figure:
    """Draw the three panels of figure 6 of Veit et al."""
    figure, axes = new_figure(1, 3, width=3.8)
    number, each, together = axes[0]
    lengths = np.arange(len(result.count))
    number.bar(lengths, 100 * result.count, color=COLORS[6])
    number.set(title="number of paths", ylabel="% of all paths")
    flat = result.gradient.reshape(-1, len(lengths))
    band(each, lengths, np.maximum(flat, 1e-30), color=COLORS[0], label="mean and range over paths")
    each.set(title="gradient of one path", ylabel="gradient norm", yscale="log")
    each.legend()
    together.bar(lengths, 100 * carried(result), color=COLORS[1])
    together.set(title="gradient of all paths of a length", ylabel="% of the gradient")
    for panel in axes[0]:
        counted(panel, "branches that the path passes")
    figure.suptitle(f"Paths through residual-{result.depth} on {result.data}")
    return figure
