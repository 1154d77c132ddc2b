"""Feature reuse: which earlier layers each layer of a DenseNet reads.

Figure 5 of Huang et al., arXiv:1608.06993: the mean absolute kernel of each layer by the layer
whose maps it reads. Source 0 is the input of the block. The networks have no bottlenecks, so each
layer's convolution reads its sources directly.
"""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from matplotlib.figure import Figure

from flax_resnet.errors import InputError
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Fitter, Variables
from flax_resnet.lab.networks import small_network
from flax_resnet.lab.settings import Training
from flax_resnet.lab.style import count_seeds, new_figure
from flax_resnet.models import DenseNet


@dataclass(frozen=True)
class Settings(Training):
    """The network: three dense blocks, without bottlenecks and compression."""

    layers: int = 4
    """Layers of each block."""
    growth_rate: int = 12
    weight_decay: float = 0.02
    """Large because training is short: unread weights vanish only by decay."""

    def __post_init__(self) -> None:
        """Refuse blocks of a single layer, which have no earlier sources."""
        super().__post_init__()
        if self.layers < 2:
            raise InputError(f"layers is {self.layers}; expected at least 2 in each block")


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", layers=12, epochs=300, weight_decay=1e-4, seeds=3),
}


@dataclass(frozen=True)
class Result:
    """Mean absolute kernels.

    Attributes:
      readers: the layers of a block, and `next`: the transition, or the head.
      start, end: before and after training, (seed, block, reader, source); NaN if the layer does
        not read the source.
      test_error: of each seed, from 0 to 1.
    """

    data: str
    readers: tuple[str, ...]
    start: np.ndarray
    end: np.ndarray
    test_error: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Train a network from every seed and read its kernels."""
    shape = dict(stage_sizes=(settings.layers,) * 3, growth_rate=settings.growth_rate)
    model = cast(DenseNet, small_network(settings, "cifar_densenet40_12", **shape))
    fitter = Fitter(model, settings)
    start, end, errors = [], [], []
    for seed in track(range(settings.seeds), "seeds"):
        start.append(source_weights(model, fitter.start(seed).variables))
        fitted = fitter.fit(seed)
        end.append(source_weights(model, fitted.variables))
        errors.append(fitted.test_error[-1])
    readers = (*(str(number) for number in range(1, settings.layers + 1)), "next")
    return Result(settings.data, readers, np.array(start), np.array(end), np.array(errors))


def source_weights(model: DenseNet, variables: Variables) -> np.ndarray:
    """Return mean absolute kernels by block, reader and source."""
    params, growth = variables["params"], model.growth_rate
    size = max(model.stage_sizes)
    weights = np.full((len(model.stage_sizes), size + 1, size + 1), np.nan)
    for block, layers in enumerate(model.stage_sizes, 1):
        kernels = [
            params["features"][f"denseblock{block}"][f"denselayer{layer}"]["conv1"]["kernel"]
            for layer in range(1, layers + 1)
        ]
        last = block == len(model.stage_sizes)
        reader: Any = params[model.head_name]
        kernels.append(
            (reader if last else params["features"][f"transition{block}"]["conv"])["kernel"]
        )
        given = kernels[0].shape[-2]
        for row, kernel in enumerate(kernels):
            read = np.moveaxis(abs(np.asarray(kernel, np.float64)), -2, 0)  # by input channel
            ends = [given + growth * number for number in range(row)]
            parts = np.split(read, ends)
            weights[block - 1, row, : row + 1] = [part.mean() for part in parts]
    return weights


def preference(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how much layers weight the previous layer, and their block's input, by seed.

    Both are relative to the mean over all sources, averaged over the layers from the second on.
    """
    layers = weights[:, :, 1:-1]
    mean = np.nanmean(layers, axis=-1)
    newest = np.stack([layers[:, :, row, row + 1] for row in range(layers.shape[2])], axis=-1)
    return (newest / mean).mean((1, 2)), (layers[..., 0] / mean).mean((1, 2))


def finding(result: Result) -> str:
    """Compare the newest and the oldest source with the mean source, before and after training."""
    (before, _), (newest, given) = preference(result.start), preference(result.end)
    last = result.end[:, -1, -1]
    head = last[:, -1] / last.mean(-1)
    seeds, error = count_seeds(len(newest)), result.test_error.mean()
    return (
        f"In DenseNets on {result.data} ({seeds}; test error {error:.1%}), layers weight the "
        f"previous layer {_times(newest)} times as much as their mean source ({_times(before)} "
        f"before training), and the input of the block {_times(given)} times; the head weights the "
        f"last layer {_times(head)} times. The smallest weight of any source is "
        f"{_least(result.end):.2f} of the mean."
    )


def _times(ratios: np.ndarray) -> str:
    low, high = f"{ratios.min():.2f}", f"{ratios.max():.2f}"
    spread = f" ({low} to {high})" if low != high else ""
    return f"{ratios.mean():.2f}{spread}"


def _least(weights: np.ndarray) -> float:
    """Return the smallest weight of a source relative to its reader's mean, averaged over seeds."""
    relative = weights / np.nanmean(weights, axis=-1, keepdims=True)
    return float(np.nanmin(relative.mean(0)))


def draw(result: Result) -> Figure:
    """Draw a heat map for each block, like figure 5 of the paper."""
    blocks = result.end.shape[1]
    figure, axes = new_figure(1, blocks, width=3.9, height=3.8)
    weights = result.end.mean(0)
    # Colors are relative to the largest source of each reader, a column.
    shown = weights / np.nanmax(weights, axis=-1, keepdims=True)
    places = np.arange(len(result.readers))
    for number, (panel, block) in enumerate(zip(axes[0], shown, strict=True), 1):
        image = panel.imshow(block.T, vmin=0, vmax=1, cmap="viridis")
        for reader, source in np.argwhere(~np.isnan(block)):
            value = block[reader, source]
            color = "black" if value > 0.6 else "white"
            panel.text(
                reader, source, f"{value:.2f}", ha="center", va="center", color=color, fontsize=6
            )
        follower = "head" if number == blocks else "transition"
        panel.set_xticks(places, [*result.readers[:-1], follower])
        panel.set_yticks(places, ["input", *result.readers[:-1]])
        panel.set(title=f"dense block {number}", xlabel="layer that reads")
        panel.grid(visible=False)
    axes[0, 0].set_ylabel("layer that is read")
    figure.colorbar(image, ax=axes, label="mean |kernel| / maximum of its column", shrink=0.85)
    seeds = f"mean over {len(result.end)} seeds" if len(result.end) > 1 else "1 seed"
    figure.suptitle(f"Feature reuse in a DenseNet on {result.data} ({seeds})")
    return figure
