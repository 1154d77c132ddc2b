"""The residual stream: what a linear probe reads from the maps after every block.

Probes as in Alain and Bengio, arXiv:1610.01644, at every depth of a trained network, with and
without shortcuts: how well a linear function of a block's channels, averaged over each image, tells
the class, and how much of the first block's channels it gives back. Where each block adds to a
stream, early features stay in it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter, Variables
from flax_resnet.lab.intervene import block_outputs
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, even_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import KINDS, band, count_seeds, counted, legend_below, new_figure
from flax_resnet.models import Network


@dataclass(frozen=True)
class Settings(Training):
    """The networks, and the images that probes are fitted to."""

    depth: int = 18
    """Number of layers, 2 n + 2, all of equal shape."""
    width: int = 16
    epochs: int = 10
    images: int = 1000
    """Number of training images that probes are fitted to, and the largest number for tests."""
    strength: float = 1e-3
    """Of the penalty of the probes, relative to the mean variance of a channel."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", depth=56, width=32, epochs=164, batch_size=128, images=10000),
}


@dataclass(frozen=True)
class Result:
    """What probes read, by kind, seed and block.

    Attributes:
      error: of the class, on test images, from 0 to 1.
      recovered: share of the variance of the first block's channels on test images, 1 for all.
      test_error: of the networks themselves, by kind and seed.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    error: np.ndarray
    recovered: np.ndarray
    test_error: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train both networks from every seed, and fit the probes."""
    kinds = tuple(PLAIN_AND_RESIDUAL)
    shape = (len(kinds), settings.seeds, (settings.depth - 2) // 2)
    error, recovered, tested = np.zeros(shape), np.zeros(shape), np.zeros(shape[:2])
    for row, kind in enumerate(track(kinds, "networks")):
        shortcut = PLAIN_AND_RESIDUAL[kind]
        model = even_network(settings, settings.depth, shortcut, settings.width)
        fitter = Fitter(model, settings)
        for seed in range(settings.seeds):
            fitted = fitter.fit(seed)
            tested[row, seed] = fitted.test_error[-1]
            known, asked = (
                (channels(model, fitted.variables, images), np.asarray(labels))
                for images, labels in (
                    fitter.first_images(settings.images, split) for split in ("train", "test")
                )
            )
            found = [
                probe(near, far, known, asked, settings.strength)
                for near, far in zip(known[0], asked[0], strict=True)
            ]
            error[row, seed], recovered[row, seed] = np.transpose(found)
    return Result(settings.data, settings.depth, kinds, error, recovered, tested)


def channels(model: Network, variables: Variables, images: jax.Array) -> list[np.ndarray]:
    """Return the channels (n, c) after every block, averaged over each image."""

    @jax.jit
    def means(variables: Any, images: jax.Array) -> list[jax.Array]:
        return [after.mean((1, 2)) for _, after in block_outputs(model, variables, images)]

    return [np.asarray(each, np.float64) for each in means(variables, images)]


def probe(near: Any, far: Any, known: Any, asked: Any, strength: float) -> tuple[float, float]:
    """Return the error of a class probe, and the share of the first block's variance.

    Args:
      near, far: channels (n, c) of training and of test images.
      known, asked: the channels after every block, and the labels, of the same images.
    """
    targets = np.eye(1 + int(max(known[1].max(), asked[1].max())))[known[1]]
    classes = linear(near, targets, far, strength)
    first = linear(near, known[0][0], far, strength)
    truth = asked[0][0]
    lost = np.square(first - truth).sum() / np.square(truth - truth.mean(0)).sum()
    return float(np.mean(classes.argmax(-1) != asked[1])), float(1 - lost)


def linear(
    inputs: np.ndarray, targets: np.ndarray, asked: np.ndarray, strength: float
) -> np.ndarray:
    """Return the predictions of ridge regression, with an intercept, for the inputs `asked`."""
    center, mean = inputs.mean(0), targets.mean(0)
    centered = inputs - center
    products = centered.T @ centered
    # Channels can be constant, and their scale differs from network to network.
    penalty = strength * np.trace(products) / len(products) + 1e-12
    solved = np.linalg.solve(
        products + penalty * np.eye(len(products)), centered.T @ (targets - mean)
    )
    predicted: np.ndarray = (asked - center) @ solved + mean
    return predicted


def finding(result: Result) -> str:
    """Compare what is read after the last block of each kind, and where classes are first read."""
    parts = []
    for kind, error, recovered in zip(result.kinds, result.error, result.recovered, strict=True):
        parts.append(
            f"after the last block of {kind}-{result.depth} a linear probe gives back "
            f"{recovered[:, -1].mean():.0%} of the first block's variance, and after the middle "
            f"one {recovered[:, recovered.shape[1] // 2].mean():.0%}; it errs in "
            f"{error[:, 0].mean():.1%} of the classes after the first block and in "
            f"{error[:, -1].mean():.1%} after the last"
        )
    return f"On {result.data} ({count_seeds(result.error.shape[1])}), {'; '.join(parts)}."


def draw(result: Result) -> Figure:
    """Draw both measures by block."""
    figure, axes = new_figure(1, 2, height=3.4)
    blocks = np.arange(1, result.error.shape[-1] + 1)
    for kind, error, recovered in zip(result.kinds, result.error, result.recovered, strict=True):
        label = f"{kind}-{result.depth}"
        band(axes[0, 0], blocks, 100 * recovered, color=KINDS[kind], label=label)
        band(axes[0, 1], blocks, 100 * error, color=KINDS[kind], label=label)
    axes[0, 0].set(ylabel="variance given back in %", title="the first block's channels")
    axes[0, 1].set(ylabel="test error in %", title="the class")
    for panel in axes[0]:
        counted(panel, "block")
        panel.set_ylim(min(0, panel.get_ylim()[0]), None)
        legend_below(panel)
    figure.suptitle(f"Linear probes after every block on {result.data}: mean and range over seeds")
    return figure
