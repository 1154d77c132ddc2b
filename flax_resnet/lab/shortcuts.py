"""Shortcuts: how the kind of shortcut and the order of layers affect training.

Table 1 of He et al., arXiv:1603.05027 (kinds of shortcuts) with the options A, B and C of
arXiv:1512.03385, and figure 4 of the former (orders of norm, ReLU and addition).
"""

from dataclasses import dataclass
from typing import Any

import jax
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.errors import require_known
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.intervene import block_gradients
from flax_resnet.lab.networks import deep_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import (
    COLORS,
    LEAST_ERROR,
    count_seeds,
    counted,
    logarithmic,
    new_figure,
    percent,
)

# Name -> arguments of the network.
KINDS: dict[str, dict[str, Any]] = {
    "padded (A)": dict(shortcut="zero_pad"),
    "projected (B)": dict(shortcut="projection"),
    "all 1x1 (C)": dict(shortcut="all"),
    "halved": dict(shortcut="halved"),
    "gated": dict(shortcut="gated"),
    "gated shortcut": dict(shortcut="gated_shortcut"),
    "dropout": dict(shortcut="dropout"),
    "none": dict(shortcut="none"),
    "ReLU before sum": dict(shortcut="projection", order="act_before_add"),
    "pre-activation": dict(shortcut="projection", order="pre"),
}


@dataclass(frozen=True)
class Settings(Training):
    """The networks to compare."""

    epochs: int = 10
    depth: int = 32
    images: int = 128
    kinds: tuple[str, ...] = tuple(KINDS)

    def __post_init__(self) -> None:
        """Refuse unknown kinds."""
        super().__post_init__()
        for kind in self.kinds:
            require_known("the kind", kind, KINDS)


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", depth=110, epochs=164, batch_size=128, seeds=5, images=512),
}


@dataclass(frozen=True)
class Result:
    """Errors and gradient flow of every kind.

    Attributes:
      train_error, test_error: by kind, seed and epoch, from 0 to 1.
      flow: norm of the loss's gradient with respect to each block's output, by kind, seed and
        block, before training.
    """

    data: str
    depth: int
    kinds: tuple[str, ...]
    train_error: np.ndarray
    test_error: np.ndarray
    flow: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train every kind of network from every seed."""
    shape = (len(settings.kinds), settings.seeds)
    train_error = np.zeros((*shape, settings.epochs))
    test_error, flow = np.zeros_like(train_error), np.zeros((*shape, (settings.depth - 2) // 2))
    for at, kind in enumerate(track(settings.kinds, "networks")):
        model = deep_network(settings, settings.depth, **KINDS[kind])
        fitter = Fitter(model, settings)
        images, labels = fitter.first_images(settings.images)
        flow_of = jax.jit(block_gradients, static_argnums=0)
        for seed in range(settings.seeds):
            flow[at, seed] = flow_of(model, fitter.start(seed).variables, images, labels)
            fitted = fitter.fit(seed)
            train_error[at, seed], test_error[at, seed] = fitted.train_error, fitted.test_error
    return Result(settings.data, settings.depth, settings.kinds, train_error, test_error, flow)


def finding(result: Result) -> str:
    """Report the test error of every kind, the best first, and its gradient flow."""
    errors = result.test_error[..., -1]
    order = np.argsort(errors.mean(-1))
    words = ", ".join(f"{result.kinds[at]} {percent(errors[at])}" for at in order)
    ratio = result.flow[:, :, 0].mean(-1) / result.flow[:, :, -1].mean(-1)
    flows = ", ".join(f"{result.kinds[at]} {ratio[at]:.2g}" for at in order)
    epochs = result.test_error.shape[-1]
    return (
        f"Test error after {epochs} epochs of {result.depth} layers on {result.data} "
        f"({count_seeds(errors.shape[-1])}): {words}. Gradient norm at the first block's output "
        f"over that at the last block's, before training: {flows}."
    )


def draw(result: Result) -> Figure:
    """Draw final errors as points with their range, and the gradients before training."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.2)
    errors, flow = axes[0]
    places = np.arange(len(result.kinds))[::-1]
    for values, color, label, shift in (
        (result.train_error, COLORS[5], "training", 0.15),
        (result.test_error, COLORS[0], "test", -0.15),
    ):
        final = np.maximum(100 * values[..., -1], LEAST_ERROR)
        mean = final.mean(-1)
        spread = np.stack([mean - final.min(-1), final.max(-1) - mean]).clip(
            0
        )  # rounding may make it negative
        errors.errorbar(mean, places + shift, xerr=spread, fmt="o", color=color, label=label)
    errors.set(
        title=f"error after epoch {result.test_error.shape[-1]}",
        xlabel="error in % (mean and range over seeds)",
        yticks=places,
        yticklabels=result.kinds,
    )
    logarithmic(errors.xaxis, LEAST_ERROR)
    errors.legend()
    blocks = np.arange(1, result.flow.shape[-1] + 1)
    colors = matplotlib.colormaps["tab10"]
    for at, (kind, values) in enumerate(zip(result.kinds, result.flow, strict=True)):
        flow.plot(blocks, values.mean(0), color=colors(at), label=kind)
    flow.set(
        title="gradient before training",
        ylabel="gradient norm at its output",
        yscale="log",
    )
    counted(flow, "block")
    figure.legend(*flow.get_legend_handles_labels(), loc="outside right center", fontsize=8)
    figure.suptitle(f"Shortcuts and orders of layers: {result.depth} layers on {result.data}")
    return figure
