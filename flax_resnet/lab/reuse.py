"""Feature reuse: which earlier layers the layers of a DenseNet read.

Figure 5 of Huang et al., arXiv:1608.06993: the mean absolute kernel of each layer by the layer
whose maps it reads. Source 0 is what the block is given. There are no bottlenecks here, so that a
layer's one convolution reads its sources directly.
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
    """Of each block."""
    growth_rate: int = 12
    weight_decay: float = 0.02
    """So large because training is short: decay is what takes unread weights away."""

    def __post_init__(self) -> None:
        """Refuse blocks whose layers have no older sources."""
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
      start, end: before and after training: (seed, block, reader, source), NaN where a layer does
        not read a source.
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
    """Return how much layers weigh the layer before, and their block's input, by seed.

    Both in multiples of the mean over all their sources; layers 2 and on.
    """
    layers = weights[:, :, 1:-1]
    mean = np.nanmean(layers, axis=-1)
    newest = np.stack([layers[:, :, row, row + 1] for row in range(layers.shape[2])], axis=-1)
    return (newest / mean).mean((1, 2)), (layers[..., 0] / mean).mean((1, 2))


def finding(result: Result) -> str:
    """Compare the newest source and the oldest one with their mean, before and after training."""
    (before, _), (newest, given) = preference(result.start), preference(result.end)
    last = result.end[:, -1, -1]
    head = last[:, -1] / last.mean(-1)
    seeds, error = count_seeds(len(newest)), result.test_error.mean()
    return (
        f"In DenseNets on {result.data} ({seeds}; test error {error:.1%}), layers weigh a channel "
        f"of the layer before them {_times(newest)} times as much as a channel of their mean "
        f"source, {_times(before)} before training, and one of the block's input {_times(given)} "
        f"times; the head weighs the last layer {_times(head)} times. The least read source of "
        f"any layer has {_least(result.end):.2f} of the mean."
    )


def _times(ratios: np.ndarray) -> str:
    low, high = f"{ratios.min():.2f}", f"{ratios.max():.2f}"
    spread = f" ({low} to {high})" if low != high else ""
    return f"{ratios.mean():.2f}{spread}"


def _least(weights: np.ndarray) -> float:
    """Return the smallest weight of a source over its reader's mean, of the mean over seeds."""
    relative = weights / np.nanmean(weights, axis=-1, keepdims=True)
    return float(np.nanmin(relative.mean(0)))


def draw(result: Result) -> Figure:
    """Draw a heat map for each block, as in the paper's figure 5."""
    blocks = result.end.shape[1]
    figure, axes = new_figure(1, blocks, width=3.9, height=3.8)
    weights = result.end.mean(0)
    # A column's colours compare the sources of one reader.
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
    figure.colorbar(image, ax=axes, label="mean |kernel| / largest of its column", shrink=0.85)
    seeds = f"mean of {len(result.end)} seeds" if len(result.end) > 1 else "1 seed"
    figure.suptitle(f"Feature reuse in a DenseNet on {result.data} ({seeds})")
    return figure
