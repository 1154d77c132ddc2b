"""Landscape: the loss around a trained network along filter-normalized directions.

Li et al., arXiv:1712.09913: a random direction is scaled, filter by filter, to the norm of the
trained filter, since otherwise large weights would make a network look flat. Norm layers, biases
and running statistics are not changed.
"""

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
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import KINDS, new_figure
from flax_resnet.models import Network


@dataclass(frozen=True)
class Settings(Training):
    """The networks and the grid."""

    epochs: int = 30
    seeds: int = 1
    depth: int = 56
    images: int = 256
    """Training images over which the loss is averaged."""
    points: int = 21
    """Points along each axis of the plane; a line has four times as many."""
    reach: float = 1.0
    lines: int = 5
    """Number of random directions for the curves."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", epochs=164, batch_size=128, images=2000, points=51, lines=10),
}


@dataclass(frozen=True)
class Result:
    """Mean cross-entropies of training images.

    Attributes:
      plane: by kind, second and first direction.
      line: by kind, direction and point.
      train_error: of the trained networks, by kind.
      plane_at, line_at: positions of the points, as multiples of the directions.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    plane: np.ndarray
    line: np.ndarray
    train_error: np.ndarray
    plane_at: np.ndarray
    line_at: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train a network of each kind and compute the loss around it."""
    plane_at = np.linspace(-settings.reach, settings.reach, settings.points)
    line_at = np.linspace(-settings.reach, settings.reach, 4 * settings.points + 1)
    plane = np.zeros((len(PLAIN_AND_RESIDUAL), settings.points, settings.points))
    line = np.zeros((len(PLAIN_AND_RESIDUAL), settings.lines, len(line_at)))
    train_error = np.zeros(len(PLAIN_AND_RESIDUAL))
    for at, (kind, shortcut) in enumerate(PLAIN_AND_RESIDUAL.items()):
        fitter = Fitter(deep_network(settings, settings.depth, shortcut), settings)
        fitted = fitter.fit(seed=0)
        train_error[at] = fitted.train_error[-1]
        losses = losses_along(fitter.model, fitted.variables, *fitter.first_images(settings.images))
        params = fitted.variables["params"]
        first, second = (filter_normalized(params, seed) for seed in (1, 2))
        for row, high in enumerate(track(plane_at, f"plane around the {kind} network")):
            plane[at, row] = losses(first, second, plane_at, np.full(settings.points, high))
        for number in track(range(settings.lines), f"lines through the {kind} network"):
            direction = filter_normalized(params, 3 + number)
            line[at, number] = losses(direction, direction, line_at, np.zeros(len(line_at)))
    return Result(
        settings.data,
        settings.depth,
        tuple(PLAIN_AND_RESIDUAL),
        plane,
        line,
        train_error,
        plane_at,
        line_at,
    )


def filter_normalized(params: Any, seed: int) -> Any:
    """Return a random direction whose filters have the norms of the filters of `params`.

    A filter is the part of a kernel for one output channel, the last axis. Vectors get zeros.
    """
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))

    def scaled(leaf: jax.Array, key: jax.Array) -> jax.Array:
        if leaf.ndim < 2:
            return jnp.zeros_like(leaf)
        noise = jax.random.normal(key, leaf.shape, leaf.dtype)
        axes = tuple(range(leaf.ndim - 1))
        size, length = (jnp.sqrt(jnp.square(a).sum(axes, keepdims=True)) for a in (leaf, noise))
        return noise * (size / length)

    return jax.tree.unflatten(tree, [scaled(*pair) for pair in zip(leaves, keys, strict=True)])


def losses_along(
    model: Network, variables: Any, images: jax.Array, labels: jax.Array
) -> Callable[..., np.ndarray]:
    """Return a function from two directions and their multiples, (n,) each, to losses (n,)."""

    @jax.jit
    def losses(variables: Any, first: Any, second: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            params = jax.tree.map(
                lambda p, d, e: p + pair[0] * d + pair[1] * e, variables["params"], first, second
            )
            logits = model.apply(dict(variables, params=params), images)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return jax.lax.map(one, (a, b))

    def at(first: Any, second: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        pair = (jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
        return np.asarray(losses(variables, first, second, *pair))

    return at


def flatness(line: np.ndarray, places: np.ndarray, rise: float = 1.0) -> float:
    """Return the distance at which the loss has risen by `rise`, averaged over lines and sides.

    Args:
      line: losses (lines, points); the middle point is the trained network.
      places: positions of the points.
    """
    middle = len(places) // 2
    distances = []
    for losses in line:
        for side in (losses[middle:], losses[middle::-1]):
            past = np.nonzero(~(side <= losses[middle] + rise))[0]
            steps = past[0] if len(past) else len(side) - 1
            distances.append(steps * (places[1] - places[0]))
    return float(np.mean(distances))


def finding(result: Result) -> str:
    """Report the distance at which each network's loss rises, and its training error."""
    middle = len(result.line_at) // 2
    parts = [
        f"around {kind}-{result.depth} ({result.train_error[at]:.1%} training error) the loss of "
        f"{result.line[at, 0, middle]:.2g} has risen by 1 at {_distance(result, at)} of the "
        f"filters' norms"
        for at, kind in enumerate(result.kinds)
    ]
    return f"On {result.data}, along random filter-normalized lines, " + "; ".join(parts) + "."


def _distance(result: Result, at: int) -> str:
    return f"{flatness(result.line[at], result.line_at):.2f}"


def draw(result: Result) -> Figure:
    """Draw the planes on one color scale, and the curves along lines through both networks."""
    count = len(result.kinds)
    figure, axes = new_figure(1, count + 1, width=4.0, height=3.6)
    finite = np.where(np.isfinite(result.plane), result.plane, np.nan)
    logs = np.log10(np.maximum(finite, 1e-4))
    low, high = np.floor(np.nanmin(logs)), min(np.ceil(np.nanmax(logs)), 4.0)
    levels = np.arange(low, max(high, low + 1) + 0.01, 0.25)
    for panel, kind, surface in zip(axes[0], result.kinds, logs, strict=False):
        filled = panel.contourf(
            result.plane_at, result.plane_at, surface, levels, cmap="viridis", extend="both"
        )
        panel.contour(
            result.plane_at, result.plane_at, surface, levels[::4], colors="white", linewidths=0.4
        )
        panel.plot(0, 0, "+", color="red", markersize=9)
        panel.set(
            title=f"{kind}-{result.depth}",
            xlabel="first direction (filter norms)",
            ylabel="second direction (filter norms)",
            aspect="equal",
        )
        panel.grid(visible=False)
    bar = figure.colorbar(filled, ax=axes[0, :count], shrink=0.8, ticks=levels[::4])
    bar.ax.set_title("log10\nof the loss", fontsize=8)
    lines = axes[0, -1]
    for kind, values in zip(result.kinds, result.line, strict=True):
        for number, losses in enumerate(values):
            label = f"{kind}-{result.depth}" if number == 0 else None
            lines.plot(result.line_at, losses, color=KINDS[kind], alpha=0.6, label=label)
    lines.set(
        title="along random lines", xlabel="distance (filter norms)", ylabel="loss", yscale="log"
    )
    lines.legend()
    figure.suptitle(f"Loss around trained networks (+) on {result.data}")
    return figure
