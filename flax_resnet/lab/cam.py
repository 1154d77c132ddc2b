"""Class activation maps: where in the image the evidence for a class lies.

A network that averages its last maps and applies a matrix gives the same logit if it applies the
matrix first: the map of its values is the class activation map (Zhou et al., arXiv:1512.04150).
Its mean, plus the bias, is the logit. Grad-CAM (Selvaraju et al., arXiv:1610.02391) needs no such
head: it weighs the channels of any map by the mean of the logit's gradient, and keeps what is
positive.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.errors import InputError, require_known
from flax_resnet.inference.explain import (
    Classifier,
    gradient_maps,
    stage_names,
    stage_path,
    with_output,
)
from flax_resnet.lab.datasets import first_images, open_dataset
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Variables
from flax_resnet.lab.style import new_figure
from flax_resnet.lab.weights import (
    OneNetwork,
    Trained,
    obtain,
    read_pictures,
    to_pixels,
)
from flax_resnet.models import ResNet
from flax_resnet.models.design import ACTIVATIONS

UNKNOWN = -1  # the label of a picture
ACTIVATING = ("frn", "evonorm_s0")  # norms that need no activation behind them


@dataclass(frozen=True)
class Settings(OneNetwork):
    """The network, and the images to explain."""

    stage_sizes: tuple[int, ...] = (1, 1, 1)
    epochs: int = 10
    images: tuple[str, ...] = ()
    """Picture files; (): test images."""
    count: int = 6
    """How many test images."""
    parts: tuple[str, ...] = ()
    """For Grad-CAM, such as layer2; (): every stage."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", stage_sizes=(), epochs=164, batch_size=128, count=8),
}


@dataclass(frozen=True)
class Result:
    """Maps of the class that the network gives the largest probability.

    Attributes:
      class_names: (): they have none, and go by their numbers.
      images: uint8 (n, h, w, channels), large ones in part.
      labels: -1 where they are not known.
      cam: (n, h, w), in units of logits.
      grad_cam: by part, (n, h, w) of that part's map.
      error: the largest difference between a logit and the mean of its map plus the bias.
      likeness: by part, the mean over the images of the cosine between Grad-CAM and the positive
        part of CAM, both enlarged to the images' size.
    """

    network: str
    data: str
    class_names: tuple[str, ...]
    images: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray
    cam: np.ndarray
    grad_cam: dict[str, np.ndarray]
    error: float
    likeness: dict[str, float]


def run(settings: Settings, track: Track = silent) -> Result:
    """Explain what the network says of every image."""
    trained = obtain(settings)
    model, variables = trained.model, trained.variables
    names = stage_names(model)
    parts = settings.parts or names
    for part in parts:
        require_known("a part", part, names)
    images, labels, class_names = chosen_images(settings, trained)
    logits, maps = jax.jit(lambda v, x: class_maps(model, v, x))(variables, images)
    predicted = logits.argmax(-1)
    rows = jnp.arange(len(images))
    cam = maps[rows, :, :, predicted]
    grad_cam, alike = {}, {}
    for part in track(parts, "parts"):
        explain = jax.jit(lambda v, x, c, part=part: gradient_maps(model, v, x, c, part))
        found = explain(variables, images, predicted)
        alike[part] = likeness(jax.nn.relu(cam), found, images.shape[1:3])
        grad_cam[part] = np.asarray(found)
    return Result(
        trained.name,
        "pictures" if settings.images else trained.data.source,
        class_names,
        to_pixels(images, trained.data),
        labels,
        np.asarray(predicted),
        np.asarray(jax.nn.softmax(logits)[rows, predicted]),
        np.asarray(cam),
        grad_cam,
        float(abs(maps.mean((1, 2)) + head(model, variables)["bias"][None] - logits).max()),
        alike,
    )


def chosen_images(
    settings: Settings, trained: Trained
) -> tuple[jax.Array, np.ndarray, tuple[str, ...]]:
    """Return images, labels and the names of the classes.

    Raises:
      InputError: the classes of the data are not those of the network.
    """
    config, classes = trained.data, trained.model.num_classes
    if settings.images:
        labels = np.full(len(settings.images), UNKNOWN)
        return read_pictures(settings.images, config), labels, ()
    data = open_dataset(config)
    if data.test.num_classes != classes:
        raise InputError(
            f"{config.source} has {data.test.num_classes} classes and {trained.name} is for "
            f"{classes}: pass data=SOURCE of its own classes, or images=FILE,FILE"
        )
    images, truth = first_images(data, settings.count, "test")
    return images, np.asarray(truth), tuple(data.test.class_names)


def head(model: Classifier, variables: Variables) -> dict[str, jax.Array]:
    """Return matrix (channels, classes) and bias of the head."""
    leaves = variables["params"]
    for name in model.head_name.split("."):
        leaves = leaves[name]
    return {"kernel": leaves["kernel"].reshape(leaves["kernel"].shape[-2:]), "bias": leaves["bias"]}


def class_maps(
    model: Classifier, variables: Variables, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return logits, and the class activation maps of all classes (n, h, w, classes).

    Raises:
      InputError: the network's head is not a matrix behind a mean.
    """
    if model.pool != "average" or not model.num_classes:
        raise InputError(
            f"pool is {model.pool!r} and num_classes {model.num_classes}; expected a network with "
            "classes that averages its last maps"
        )
    path, activation = last_output(model)
    logits, maps = with_output(model, variables, images, path)
    maps = ACTIVATIONS[activation](maps)
    return logits, maps.astype(logits.dtype) @ head(model, variables)["kernel"]


def last_output(model: Classifier) -> tuple[tuple[str, ...], str]:
    """Return the path of the last module before the head, and the activation behind it."""
    stage = stage_path(model, stage_names(model)[-1])
    if isinstance(model, ResNet) and model.order != "pre":
        return stage, "identity"
    activation = "identity" if model.norm in ACTIVATING else model.activation
    norm = ("norm",) if isinstance(model, ResNet) else ("features", "norm5")
    return stage if model.norm == "none" else norm, activation


def likeness(first: jax.Array, second: jax.Array, side: tuple[int, ...]) -> float:
    """Return the mean cosine between maps (n, h, w), enlarged to `side`."""
    a, b = (
        jax.image.resize(maps, (len(maps), *side), "bilinear").reshape(len(maps), -1)
        for maps in (first, second)
    )
    lengths = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / jnp.maximum(lengths, 1e-12)).mean())


def finding(result: Result) -> str:
    """Say how exact CAM is, and how much Grad-CAM of each part resembles it."""
    known, right = UNKNOWN not in result.labels, (result.predicted == result.labels).sum()
    said = f", {right} right" if known else ""
    cosines = ", ".join(f"{part} {value:.2f}" for part, value in result.likeness.items())
    return (
        f"{result.network} on {len(result.images)} images of {result.data}{said}: the means of "
        f"the class activation maps plus the bias are the logits to {result.error:.1g}; cosine "
        f"between Grad-CAM and the positive part of CAM by stage: {cosines}."
    )


def draw(result: Result) -> Figure:
    """Draw a row for each image."""
    columns = {"CAM": result.cam} | {
        f"Grad-CAM, {part}": maps for part, maps in result.grad_cam.items()
    }
    count = len(result.images)
    figure, axes = new_figure(count, 1 + len(columns), width=1.9, height=2.05)
    for row, panels in enumerate(axes):
        picture = result.images[row]
        _show(panels[0], picture, _words(result, row))
        for panel, (title, maps) in zip(panels[1:], columns.items(), strict=True):
            _show(panel, picture, title if not row else "", behind=True)
            _overlay(panel, maps[row], picture.shape[:2])
    figure.suptitle(
        f"Evidence for the predicted class: {result.network} on {result.data}\n"
        "red: for it; blue: against it (CAM alone); each map is scaled to its largest value"
    )
    return figure


def _show(panel: Any, picture: np.ndarray, title: str, behind: bool = False) -> None:
    """Show an image; behind a map in light grey, for colours are the map's and black hides it."""
    height, width, channels = picture.shape
    shown = picture.mean(-1) if behind or channels == 1 else picture
    darkest = -200 if behind else 0
    panel.imshow(shown, cmap="gray", vmin=darkest, vmax=255, extent=(0, width, height, 0))
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=8)
    panel.spines[:].set_visible(False)
    panel.grid(visible=False)


def _overlay(panel: Any, values: np.ndarray, size: tuple[int, int]) -> None:
    """Lay a map over an image; where it is zero, the image shows."""
    largest = max(float(abs(values).max()), 1e-12)
    panel.imshow(
        values,
        cmap="RdBu_r",
        vmin=-largest,
        vmax=largest,
        alpha=0.85 * abs(values) / largest,
        extent=(0, size[1], size[0], 0),
        interpolation="bilinear",
    )


def _words(result: Result, row: int) -> str:
    def name(label: int) -> str:
        return result.class_names[label] if result.class_names else str(label)

    found = f"{name(int(result.predicted[row]))} ({result.probability[row]:.0%})"
    true = int(result.labels[row])
    return f"predicted {found}" + ("" if true == UNKNOWN else f"\ntrue {name(true)}")
