"""Highway: fifty fully connected layers train with gates but not without.

Figure 1 of Srivastava et al., arXiv:1507.06228: networks of 10 to 100 layers of equal width,
without gates, and with gates that mostly carry their input at the start.
"""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter
from flax_resnet.lab.networks import small_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import (
    COLORS,
    band,
    counted,
    legend_below,
    mean_or_diverged,
    new_figure,
    shades,
)
from flax_resnet.models import Network

KINDS = {"plain": "none", "highway": "gated"}
MAPS = {"plain": "Oranges", "highway": "Blues"}


@dataclass(frozen=True)
class Settings(Training):
    """The networks to compare."""

    epochs: int = 20
    learning_rate: float = 0.05
    depths: tuple[int, ...] = (10, 20, 50)
    """Layers before the head."""
    width: int = 50
    carry_bias: float = -4.0
    """At -2 each layer replaces an eighth of its input, and after fifty layers none is left."""
    images: int = 256


SIZES = {
    "small": Settings(),
    "paper": Settings(
        data="mnist", depths=(10, 20, 50, 100), epochs=400, batch_size=128, seeds=5, images=1000
    ),
}


@dataclass(frozen=True)
class Result:
    """Losses and gates.

    Attributes:
      train_loss: by kind, depth, seed and epoch.
      test_error: at the end, by kind, depth and seed, from 0 to 1.
      gate: mean of each layer's transform gate in the deepest highway network, before and after
        training, (2, layers); the mean over seeds and test images.
    """

    data: str
    kinds: tuple[str, ...]
    depths: tuple[int, ...]
    train_loss: np.ndarray
    test_error: np.ndarray
    gate: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train every network from every seed."""
    shape = (len(KINDS), len(settings.depths), settings.seeds)
    train_loss, test_error = np.zeros((*shape, settings.epochs)), np.zeros(shape)
    gates: list[np.ndarray] = []
    pairs = [(k, d) for k in range(len(KINDS)) for d in range(len(settings.depths))]
    for k, d in track(pairs, "networks"):
        model = small_network(
            settings,
            "highway50",
            stage_sizes=(settings.depths[d] - 1,),
            widths=(settings.width,),
            shortcut=list(KINDS.values())[k],
            carry_bias=settings.carry_bias,
        )
        fitter = Fitter(model, settings)
        images, _ = fitter.first_images(settings.images, "test")
        deepest = k == len(KINDS) - 1 and d == int(np.argmax(settings.depths))
        for seed in range(settings.seeds):
            before = gate_means(model, fitter.start(seed).variables, images) if deepest else None
            fitted = fitter.fit(seed)
            train_loss[k, d, seed] = fitted.train_loss
            test_error[k, d, seed] = fitted.test_error[-1]
            if before is not None:
                gates.append(np.stack([before, gate_means(model, fitted.variables, images)]))
    return Result(
        settings.data, tuple(KINDS), settings.depths, train_loss, test_error, np.mean(gates, axis=0)
    )


def gate_means(model: Network, variables: Any, images: jax.Array) -> np.ndarray:
    """Return each layer's transform gate, averaged over images and units, (layers,)."""
    _, seen = model.apply(
        variables, images, capture_intermediates=lambda module, _: module.name == "transform"
    )
    leaves = jax.tree_util.tree_leaves_with_path(seen["intermediates"])
    ordered = sorted(leaves, key=lambda leaf: int(leaf[0][-4].key))
    return np.asarray([float(jax.nn.sigmoid(value).mean()) for _, value in ordered])


def finding(result: Result) -> str:
    """Compare the final loss and error of shallow and deep networks of each kind."""
    words = "; ".join(
        f"{kind} networks of "
        + ", ".join(
            f"{depth} layers reach a training loss of {mean_or_diverged(result.train_loss[k, d])} "
            f"({result.test_error[k, d].mean():.1%} test error)"
            for d, depth in enumerate(result.depths)
        )
        for k, kind in enumerate(result.kinds)
    )
    before, after = result.gate.mean(-1)
    return (
        f"On {result.data}, {words}; the mean transform gate of the deepest is {before:.0%} "
        f"before training and {after:.0%} after."
    )


def draw(result: Result) -> Figure:
    """Draw losses by epoch in a panel for each kind, and the mean gates by layer."""
    figure, axes = new_figure(1, 3, width=3.9, height=3.6)
    epochs = np.arange(1, result.train_loss.shape[-1] + 1)
    low, high = np.nanmin(result.train_loss), np.nanmax(result.train_loss)
    for panel, kind, losses in zip(axes[0], result.kinds, result.train_loss, strict=False):
        colors = shades(MAPS[kind], len(result.depths))
        for depth, color, loss in zip(result.depths, colors, losses, strict=True):
            band(panel, epochs, loss, color=color, label=f"{kind}-{depth}")
        panel.set(title=f"{kind} networks", ylabel="training loss", yscale="log")
        counted(panel, "epoch")
        panel.set_ylim(low / 1.5, high * 1.5)
        legend_below(panel)
    gates = axes[0, -1]
    layers = np.arange(1, result.gate.shape[-1] + 1)
    gates.plot(layers, result.gate[0], ":", color=COLORS[6], label="before training")
    gates.plot(layers, result.gate[1], color=COLORS[0], label="after training")
    gates.set(
        title=f"gates of highway-{max(result.depths)}",
        ylabel="mean transform gate T",
        ylim=(0, 1.5 * result.gate.max()),
    )
    counted(gates, "layer")
    legend_below(gates)
    figure.suptitle(f"Highway networks on {result.data}: mean and range over seeds")
    return figure
