"""Shallow networks do not gain: the value of shortcuts by depth, from four layers up.

All blocks of a network have the same shape, so that depth is the only difference: convolutions of
3x3 in pairs, with and without identity shortcuts (He et al., arXiv:1512.03385, section 4.1, finds
that 18 layers without shortcuts are as accurate as with them).
"""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL, even_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import (
    KINDS,
    LEAST_ERROR,
    band,
    count_seeds,
    legend_below,
    logarithmic,
    new_figure,
    percent,
)
from flax_resnet.models.summary import count_macs


@dataclass(frozen=True)
class Settings(Training):
    """The networks to compare."""

    depths: tuple[int, ...] = (4, 6, 10, 18, 34)
    """Numbers of layers, each 2 n + 2."""
    width: int = 16
    epochs: int = 10


SIZES = {
    "small": Settings(),
    "paper": Settings(
        data="cifar10", depths=(4, 6, 10, 18, 34, 56, 110), width=32, epochs=164, batch_size=128
    ),
}


@dataclass(frozen=True)
class Result:
    """Errors at the end of training, from 0 to 1, and multiply-adds of an image.

    Attributes:
      train_error, test_error: by kind, depth and seed.
      macs: by depth; shortcuts cost none.
    """

    data: str
    kinds: tuple[str, ...]
    depths: tuple[int, ...]
    train_error: np.ndarray
    test_error: np.ndarray
    macs: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train every network from every seed."""
    kinds, depths = tuple(PLAIN_AND_RESIDUAL), settings.depths
    shape = (len(kinds), len(depths), settings.seeds)
    train_error, test_error, macs = np.zeros(shape), np.zeros(shape), np.zeros(len(depths))
    for at in track(range(len(kinds) * len(depths)), "networks"):
        kind, depth = divmod(at, len(depths))
        shortcut = PLAIN_AND_RESIDUAL[kinds[kind]]
        model = even_network(settings, depths[depth], shortcut, settings.width)
        macs[depth] = count_macs(model)
        fitter = Fitter(model, settings)
        for seed in range(settings.seeds):
            fitted = fitter.fit(seed)
            train_error[kind, depth, seed] = fitted.train_error[-1]
            test_error[kind, depth, seed] = fitted.test_error[-1]
    return Result(settings.data, kinds, depths, train_error, test_error, macs)


def finding(result: Result) -> str:
    """Compare both kinds at every depth, and the best depth with the shallowest network."""
    parts = [
        f"{depth} layers {percent(plain)} without and {percent(residual)} with shortcuts"
        for depth, plain, residual in zip(result.depths, *result.test_error, strict=True)
    ]
    residual = result.test_error[-1].mean(-1)
    best = int(residual.argmin())
    return (
        f"Test error on {result.data} ({count_seeds(result.test_error.shape[-1])}): "
        f"{', '.join(parts)}; the best residual network has {result.depths[best]} layers and "
        f"{result.macs[best] / result.macs[0]:.1f} times the multiply-adds of the shallowest."
    )


def draw(result: Result) -> Figure:
    """Draw errors by depth, and the test error by multiply-adds."""
    figure, axes = new_figure(1, 2, height=3.6, sharey=True)
    for kind, train, test in zip(result.kinds, result.train_error, result.test_error, strict=True):
        trained, tested = (np.maximum(100 * e.T, LEAST_ERROR) for e in (train, test))
        options = dict(color=KINDS[kind], marker="o", markersize=3)
        axes[0, 0].plot(result.depths, trained.mean(0), "--", color=KINDS[kind], linewidth=1)
        band(axes[0, 0], result.depths, tested, label=kind, **options)
        band(axes[0, 1], result.macs / 1e6, tested, label=kind, **options)
    axes[0, 0].plot([], [], "--", color="grey", linewidth=1, label="training")
    for panel, title in zip(axes[0], ("layers", "million multiply-adds an image"), strict=True):
        logarithmic(panel.yaxis, LEAST_ERROR)
        logarithmic(panel.xaxis)
        panel.set_xlabel(title)
        legend_below(panel)
    axes[0, 0].set_ylabel("error in %")
    figure.suptitle(f"Depth on {result.data}: mean over seeds, range of the test error")
    return figure
