"""Gradients: their norm at every layer, and how blocks amplify a small change in their input.

The derivative of x + F(x) is 1 + dF/dx, and that of several blocks is the product. It is measured
here by Jacobian-vector products of random directions, from each block's output to the last map;
backpropagation applies the transpose of the same product.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.intervene import apply_changed, zero_deltas
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import KINDS, band, counted, legend_below, new_figure
from flax_resnet.models import Network
from flax_resnet.models.variables import part_of

NORMS = ("batch", "none")


@dataclass(frozen=True)
class Settings(Training):
    """The networks to measure."""

    epochs: int = 5
    seeds: int = 3
    depth: int = 50
    images: int = 64
    directions: int = 8


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", epochs=30, batch_size=128, images=256, directions=32),
}


@dataclass(frozen=True)
class Result:
    """Gradient norms and gains.

    Attributes:
      gradient: norm of the gradient of every kernel by kind, seed, epoch (the first before
        training) and layer, with batch norm.
      bare_gradient: before training, without any norm, by kind, seed and layer.
      gain: |J v| / |v| from each block's output to the last map by norm, kind, seed and block; the
        mean over random directions v, before training.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    norms: tuple[str, ...]
    layers: tuple[str, ...]
    gradient: np.ndarray
    bare_gradient: np.ndarray
    gain: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Measure networks of both kinds before training, and with batch norm also during training."""
    seeds, count = settings.seeds, (settings.depth - 2) // 2
    gradient = np.zeros((len(PLAIN_AND_RESIDUAL), seeds, settings.epochs + 1, settings.depth))
    bare = np.zeros((len(PLAIN_AND_RESIDUAL), seeds, settings.depth))
    gain = np.zeros((len(NORMS), len(PLAIN_AND_RESIDUAL), seeds, count))
    tasks = [(n, k) for n in range(len(NORMS)) for k in range(len(PLAIN_AND_RESIDUAL))]
    layers: tuple[str, ...] = ()
    for n, k in track(tasks, "networks"):
        shortcut = list(PLAIN_AND_RESIDUAL.values())[k]
        model = deep_network(settings, settings.depth, shortcut, norm=NORMS[n])
        fitter = Fitter(model, settings)
        images, labels = fitter.first_images(settings.images)
        norms_of = jax.jit(functools.partial(kernel_gradients, model, images, labels))
        gains_of = jax.jit(gains(model, images, settings.directions))
        layers = tuple(kernel_names(fitter.start(0).variables["params"]))
        for seed in range(seeds):
            start = fitter.start(seed).variables
            gain[n, k, seed] = gains_of(start)
            if NORMS[n] == "none":
                bare[k, seed] = norms_of(start)
            else:
                gradient[k, seed] = fitter.fit(seed, norms_of).watched
    return Result(
        settings.data,
        settings.depth,
        tuple(PLAIN_AND_RESIDUAL),
        NORMS,
        layers,
        gradient,
        bare,
        gain,
    )


def kernel_names(params: Any) -> list[str]:
    """Return the names of the layers with kernels, in order from the images to the head."""
    names = [path[:-1] for path in traverse_util.flatten_dict(params) if path[-1] == "kernel"]
    return [".".join(path) for path in sorted(names, key=_position)]


def _position(path: tuple[str, ...]) -> tuple[Any, ...]:
    place = {"stem": 0, "head": 2}.get(part_of(path), 1)
    return (place, *(int(part) if part.isdigit() else part for part in path))


def kernel_gradients(
    model: Network, images: jax.Array, labels: jax.Array, variables: Any
) -> jax.Array:
    """Return the norm of the loss's gradient with respect to each kernel, (layers,)."""

    def loss(params: Any) -> jax.Array:
        given = dict(variables, params=params)
        logits, _ = model.apply(given, images, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    gradients = traverse_util.flatten_dict(jax.grad(loss)(variables["params"]), sep=".")
    names = kernel_names(variables["params"])
    return jnp.stack([jnp.linalg.norm(gradients[f"{name}.kernel"]) for name in names])


def gains(
    model: Network, images: jax.Array, directions: int, seed: int = 0
) -> Callable[[Any], jax.Array]:
    """Return a function from variables to the mean |J v| / |v| of each block, (blocks,).

    J is the derivative of the last block's output with respect to this block's, v random.
    """

    def measure(variables: Any) -> jax.Array:
        start = zero_deltas(model, variables, images)

        def last(deltas: list[jax.Array]) -> jax.Array:
            seen = []

            def add(number: int, x: jax.Array, y: jax.Array) -> jax.Array:
                seen.append(y + deltas[number])
                return seen[-1]

            apply_changed(model, variables, images, add, train=True, mutable=["batch_stats"])
            return seen[-1]

        # One graph for all blocks: compiling one per block would take minutes.
        def one(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
            number, key = pair
            chosen = [
                jax.random.normal(key, d.shape) * (number == at) for at, d in enumerate(start)
            ]
            pushed = jax.jvp(last, (start,), (chosen,))[1]
            return jnp.linalg.norm(pushed) / optax.tree.norm(chosen)

        numbers = jnp.repeat(jnp.arange(len(start)), directions)
        keys = jax.random.split(jax.random.key(seed), len(numbers))
        return jax.lax.map(one, (numbers, keys)).reshape(len(start), directions).mean(-1)

    return measure


def finding(result: Result) -> str:
    """Report the range of gradient norms and the first block's gain, by kind."""
    sentences, epochs = [], result.gradient.shape[2] - 1
    for k, kind in enumerate(result.kinds):
        start, end = (decades(result.gradient[k, :, epoch]) for epoch in (0, -1))
        bare = decades(result.bare_gradient[k])
        gain, bare_gain = result.gain[:, k, :, 0].mean(-1)
        sentences.append(
            f"in {kind}-{result.depth} the kernels' gradients span {start:.1f} orders of magnitude "
            f"at the start and {end:.1f} after {epochs} epochs ({bare:.1f} at the start without "
            "batch norm), and a change of the first block's output is amplified "
            f"{gain:.2g} times until the last map ({bare_gain:.2g} times without batch norm)"
        )
    seeds = result.gradient.shape[1]
    return f"On {result.data} (means of {seeds} seeds), " + "; ".join(sentences) + "."


def decades(norms: np.ndarray) -> float:
    """Return the decades between the largest and the smallest norm, averaged over seeds."""
    logs = np.log10(np.maximum(norms, 1e-30))
    return float((logs.max(-1) - logs.min(-1)).mean())


def draw(result: Result) -> Figure:
    """Draw gradient norms before and after training and without norm layers, and the gains."""
    figure, axes = new_figure(2, 2)
    layers = np.arange(1, len(result.layers) + 1)
    epochs = result.gradient.shape[2] - 1
    panels = {
        "batch norm, before training": result.gradient[:, :, 0],
        f"batch norm, after epoch {epochs}": result.gradient[:, :, -1],
        "no norm layers, before training": result.bare_gradient,
    }
    for panel, (title, gradient) in zip(axes.flat, panels.items(), strict=False):
        for kind, values in zip(result.kinds, gradient, strict=True):
            band(panel, layers, values, color=KINDS[kind], label=f"{kind}-{result.depth}")
        panel.set(title=title, ylabel="norm of a kernel's gradient", yscale="log")
        counted(panel, "layer")
        panel.legend()
    panel = axes[1, 1]
    blocks = np.arange(1, result.gain.shape[-1] + 1)
    for norm, style, gains in zip(result.norms, ("-", ":"), result.gain, strict=True):
        for kind, gain in zip(result.kinds, gains, strict=True):
            name = "batch norm" if norm == "batch" else "no norm layers"
            label = f"{kind}, {name}"
            band(panel, blocks, gain, color=KINDS[kind], linestyle=style, label=label)
    panel.set(
        title="from a block's output to the last map",
        ylabel="|J v| / |v|",
        yscale="log",
    )
    counted(panel, "block")
    legend_below(panel, 2)
    figure.suptitle(f"Gradients in networks of {result.depth} layers on {result.data}")
    return figure
