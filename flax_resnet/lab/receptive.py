"""The receptive field: in theory, and as measured by gradients.

The gradient of a map's central value with respect to the image is nonzero in a square, the
theoretical receptive field, and concentrated in a smaller part of it, the effective receptive field
(Luo et al., arXiv:1701.04128). Images are noise; the gradient that enters the map is random over
channels, and absolute values are averaged over images and channels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flax_resnet.errors import InputError
from flax_resnet.inference.explain import Classifier
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Variables
from flax_resnet.lab.networks import PLAIN_AND_RESIDUAL
from flax_resnet.lab.style import COLORS, KINDS, band, new_figure
from flax_resnet.lab.weights import check_key, classifier, random_variables
from flax_resnet.models import create_model, summarize
from flax_resnet.training.networks import open_network

LOWEST = 1e-8  # relative to the largest gradient; smaller values are drawn as this
SHARE = COLORS[3]
OTHERS = {"random": COLORS[6], "trained": COLORS[2]}


@dataclass(frozen=True)
class Settings:
    """The network to measure, and the images."""

    network: str = "cifar_resnet20"
    """Compared with the same network without shortcuts, both with random weights."""
    weights: str = ""
    """A run's folder, a published name or a file, to compare with random weights instead."""
    key: str = ""
    """The part of a file of `weights` to use, as in `load_pretrained`."""
    image_size: int | None = None
    """None: large enough for the largest field."""
    images: int = 4
    seeds: int = 3
    """Number of random weights and images."""
    share: float = 0.95
    """Fraction of the gradient that the effective field contains."""

    def __post_init__(self) -> None:
        """Refuse settings with which nothing can be measured."""
        check_key(self.key, self.weights)
        if not 0 < self.share < 1:
            raise InputError(f"share is {self.share}; expected above 0 and below 1")
        if self.images < 1 or self.seeds < 1:
            raise InputError(
                f"images is {self.images} and seeds is {self.seeds}; expected at least 1"
            )


SIZES = {
    "small": Settings(),
    "paper": Settings(network="cifar_resnet56", images=16, seeds=5),
}


@dataclass(frozen=True)
class Result:
    """Sides of squares in pixels.

    Attributes:
      theory: by part.
      measured: of the nonzero gradient, by kind, seed and part.
      effective: the smallest square with the same center that contains `share` of the gradient.
      gradient: of the last part, normalized to sum 1, averaged over seeds: (kind, h, w).
    """

    network: str
    kinds: tuple[str, ...]
    parts: tuple[str, ...]
    share: float
    theory: np.ndarray
    measured: np.ndarray
    effective: np.ndarray
    gradient: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Measure every part of both networks, from every seed."""
    networks = compared_networks(settings)
    # The networks differ only in shortcuts or weights, so their theoretical fields are equal.
    size = image_size(settings, networks[0][1])
    table = summarize(networks[0][1], size)[:-1]
    parts = [part.name for part in table]
    shape = (len(networks), settings.seeds, len(parts))
    measured, effective = np.zeros(shape, int), np.zeros(shape, int)
    last = np.zeros((len(networks), size, size))
    for kind, (_, model, variables) in enumerate(track(networks, "networks")):
        measure = jax.jit(lambda *a, model=model: central_gradients(model, *a))
        for seed in range(settings.seeds):
            keys = jax.random.split(jax.random.key(seed), 3)
            images = noise(keys[0], model, settings.images, size)
            used = variables or random_variables(model, keys[1], images)
            gradients = jax.device_get(measure(used, images, keys[2]))
            for number, part in enumerate(parts):
                mass = np.asarray(gradients[part], np.float64)
                measured[kind, seed, number], center = extent(mass)
                effective[kind, seed, number] = square(mass, center, settings.share)
            last[kind] += mass / mass.sum() / settings.seeds
    return Result(
        Path(settings.weights).name or settings.network,
        tuple(kind for kind, _, _ in networks),
        tuple(parts),
        settings.share,
        np.array([part.receptive_field or 0 for part in table]),
        measured,
        effective,
        last,
    )


def compared_networks(settings: Settings) -> list[tuple[str, Classifier, Variables | None]]:
    """Return the kind, the model and, for trained networks, the variables of each network."""
    if settings.weights:
        found = open_network(settings.weights, key=settings.key or None)
        trained = classifier(found.model)
        return [("random", trained, None), ("trained", trained, dict(found.variables))]
    return [
        (kind, classifier(create_model(settings.network, shortcut=shortcut)), None)
        for kind, shortcut in PLAIN_AND_RESIDUAL.items()
    ]


def image_size(settings: Settings, model: Classifier) -> int:
    """Return the side of the images, in pixels.

    Raises:
      InputError: they are smaller than the largest field.
    """
    least = fitting_size(model)
    size = settings.image_size or least
    if size < least:
        raise InputError(f"image_size is {size}; the largest field needs at least {least} pixels")
    return size


def fitting_size(model: Classifier) -> int:
    """Return a side of images that contains the field of every map's central value."""
    last = summarize(model)[-2]
    field, stride = last.receptive_field, last.stride
    if field is None or stride is None:
        raise InputError(
            "the last maps see the whole image, so their receptive field cannot be measured"
        )
    return -(-(field + 2 * stride) // (2 * stride)) * 2 * stride


def noise(key: jax.Array, model: Classifier, count: int, size: int) -> jax.Array:
    """Return normally distributed pixels."""
    return jax.random.normal(key, (count, size, size, model.in_channels))


def central_gradients(
    model: Classifier, variables: Variables, images: jax.Array, key: jax.Array
) -> dict[str, jax.Array]:
    """Return the mean absolute gradient (h, w) of each part's central value."""
    shapes = jax.eval_shape(lambda: model.apply(variables, images, method="features"))

    def gradient(name: str) -> jax.Array:
        n, h, w, c = shapes[name].shape
        upstream = jax.random.normal(key, (n, c))

        def middle(images: jax.Array) -> jax.Array:
            maps = cast(Any, model.apply(variables, images, method="features"))
            return (maps[name][:, h // 2, w // 2] * upstream).sum()

        return abs(jax.grad(middle)(images)).mean((0, 3))

    return {name: gradient(name) for name in shapes}


def extent(mass: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the side and the center of the square where `mass` is nonzero."""
    ends = [np.flatnonzero(mass.any(axis))[[0, -1]] for axis in (1, 0)]
    return int(max(last - first + 1 for first, last in ends)), np.mean(ends, axis=1)


def square(mass: np.ndarray, middle: np.ndarray, share: float) -> int:
    """Return the side of the smallest square around `middle` that contains `share` of `mass`."""
    rows, columns = (abs(np.arange(n) - at) for n, at in zip(mass.shape, middle, strict=True))
    distance = np.maximum(rows[:, None], columns).ravel()
    order = np.argsort(distance)
    contained = np.cumsum(mass.ravel()[order])
    enough = np.searchsorted(contained, share * contained[-1])
    return round(2 * distance[order][enough] + 1)


def finding(result: Result) -> str:
    """Compare the theoretical, the measured and the effective field of the last part."""
    theory, part = result.theory[-1], result.parts[-1]
    same = (result.measured == result.theory).all((1, 2))
    agree = "everywhere" if same.all() else f"in {same.sum()} of {len(same)} networks"
    parts = []
    for kind, sides in zip(result.kinds, result.effective[..., -1], strict=True):
        spread = f" ({sides.min()} to {sides.max()})" if np.ptp(sides) else ""
        parts.append(
            f"{sides.mean():.0f}{spread} pixels, {np.mean(sides**2) / theory**2:.0%} of the area, "
            f"in the {kind} network"
        )
    return (
        f"The receptive field of {part} of {result.network} is a square of {theory} pixels; the "
        f"measured fields equal the theoretical ones {agree}, and {result.share:.0%} of the "
        f"gradient is in a square of {' and of '.join(parts)}."
    )


def draw(result: Result) -> Figure:
    """Draw the gradient of the last part for each network, and the fields of all parts."""
    figure, axes = new_figure(1, len(result.kinds) + 1, height=3.8)
    for panel, kind, gradient, effective in zip(
        axes[0], result.kinds, result.gradient, result.effective[..., -1], strict=False
    ):
        shown = np.maximum(gradient / gradient.max(), LOWEST)
        shown[gradient == 0] = np.nan
        image = panel.imshow(shown, norm=LogNorm(LOWEST, 1), cmap="viridis")
        panel.set(xlabel="pixel", ylabel="pixel")
        panel.set_title(
            f"{result.parts[-1]}, {kind}\ntheory: {result.theory[-1]} (black), "
            f"{result.share:.0%} of the gradient: {effective.mean():.0f} (pink)"
        )
        panel.grid(visible=False)
        middle = extent(gradient)[1]
        for side, color in ((result.theory[-1], "black"), (effective.mean(), SHARE)):
            corner = middle[::-1] - side / 2
            box = Rectangle(corner, side, side, fill=False, edgecolor=color, linewidth=1.4)
            panel.add_patch(box)
    figure.colorbar(image, ax=axes[0, :-1], label="mean |gradient| / maximum", shrink=0.75)
    panel = axes[0, -1]
    places = np.arange(len(result.parts))
    panel.plot(places, result.theory, "k--o", markersize=3, label="theory")
    for kind, effective in zip(result.kinds, result.effective, strict=True):
        color = KINDS.get(kind) or OTHERS[kind]
        band(panel, places, effective, color=color, marker="o", markersize=3, label=kind)
    panel.set(title=f"square with {result.share:.0%} of the gradient", ylabel="side in pixels")
    panel.set_xticks(places, result.parts)
    panel.set_ylim(bottom=0)
    panel.legend()
    figure.suptitle(f"Receptive fields of {result.network} (mean over seeds)")
    return figure
