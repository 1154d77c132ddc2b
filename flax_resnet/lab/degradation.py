"""Degradation: deeper plain networks train worse, deeper residual networks do not.

Figure 6 of He et al., arXiv:1512.03385: networks for CIFAR with 20 to 56 layers, with and without
identity shortcuts, otherwise equal.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import (
    LEAST_ERROR,
    band,
    count_seeds,
    counted,
    legend_below,
    logarithmic,
    new_figure,
    percent,
    shades,
)

MAPS = {"plain": "Oranges", "residual": "Blues"}


@dataclass(frozen=True)
class Settings(Training):
    """The networks to compare."""

    depths: tuple[int, ...] = (20, 32, 44, 56)
    """Numbers of layers, each 6 n + 2."""


SIZES = {
    "small": Settings(),
    "paper": Settings(
        data="cifar10", depths=(20, 32, 44, 56, 110), epochs=164, batch_size=128, seeds=5
    ),
}


@dataclass(frozen=True)
class Result:
    """Errors by kind, depth, seed and epoch, from 0 to 1."""

    data: str
    kinds: tuple[str, ...]
    depths: tuple[int, ...]
    train_error: np.ndarray
    test_error: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train every network from every seed."""
    shape = (len(PLAIN_AND_RESIDUAL), len(settings.depths), settings.seeds, settings.epochs)
    train_error, test_error = np.zeros(shape), np.zeros(shape)
    pairs = [(kind, depth) for kind in PLAIN_AND_RESIDUAL for depth in settings.depths]
    for at, (kind, depth) in enumerate(track(pairs, "networks")):
        row = divmod(at, len(settings.depths))
        model = deep_network(settings, depth, PLAIN_AND_RESIDUAL[kind])
        fitter = Fitter(model, settings)
        for seed in range(settings.seeds):
            fitted = fitter.fit(seed)
            train_error[row][seed] = fitted.train_error
            test_error[row][seed] = fitted.test_error
    return Result(
        settings.data, tuple(PLAIN_AND_RESIDUAL), settings.depths, train_error, test_error
    )


def finding(result: Result) -> str:
    """Compare the shallowest and the deepest network of each kind."""
    final = result.train_error[..., -1]
    tested = result.test_error[..., -1]
    parts = []
    for kind, train, test in zip(result.kinds, final, tested, strict=True):
        low, high = result.depths[0], result.depths[-1]
        parts.append(
            f"{kind}-{high} ends at {percent(train[-1])} training and {percent(test[-1])} test "
            f"error, {kind}-{low} at {percent(train[0])} and {percent(test[0])}"
        )
    return f"On {result.data} ({count_seeds(final.shape[-1])}), " + "; ".join(parts) + "."


def draw(result: Result) -> Figure:
    """Draw a panel for each kind, like figure 6 of the paper."""
    figure, axes = new_figure(1, len(result.kinds), height=3.8, sharey=True)
    epochs = np.arange(1, result.train_error.shape[-1] + 1)
    for panel, kind, train, test in zip(
        axes[0], result.kinds, result.train_error, result.test_error, strict=True
    ):
        colors = shades(MAPS[kind], len(result.depths))
        for depth, color, trained, tested in zip(result.depths, colors, train, test, strict=True):
            trained, tested = (np.maximum(100 * e, LEAST_ERROR) for e in (trained, tested))
            panel.plot(epochs, trained.mean(0), "--", color=color, linewidth=1)
            band(panel, epochs, tested, color=color, label=f"{kind}-{depth}")
        panel.set_title(f"{kind} networks")
        counted(panel, "epoch")
        logarithmic(panel.yaxis, LEAST_ERROR)
        panel.plot([], [], "--", color="grey", linewidth=1, label="training")
        panel.plot([], [], "-", color="grey", label="test")
        legend_below(panel)
    axes[0, 0].set_ylabel("error in %")
    figure.suptitle(f"Degradation on {result.data}: mean over seeds, range of the test error")
    return figure
