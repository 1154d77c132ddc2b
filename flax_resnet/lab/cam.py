"""Class activation maps: where in the image the evidence for a class lies.

A network that averages its last maps and then applies a matrix has the same logits if the matrix
is applied first: its output at each position is the class activation map (CAM; Zhou et al.,
arXiv:1512.04150), whose mean plus the bias is the logit. Grad-CAM (Selvaraju et al.,
arXiv:1610.02391) needs no such head; see `flax_resnet.inference.explain`.
"""

import dataclasses
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
    read_images,
    to_pixels,
)
from flax_resnet.models import ResNet
from flax_resnet.models.design import ACTIVATIONS
from flax_resnet.training.classes import for_outputs

UNKNOWN = -1  # the label of an image file
ACTIVATING = ("frn", "evonorm_s0")  # norms that are not followed by an activation


@dataclass(frozen=True)
class Settings(OneNetwork):
    """The network, and the images to explain."""

    stage_sizes: tuple[int, ...] = (1, 1, 1)
    epochs: int = 10
    images: tuple[str, ...] = ()
    """Image files; (): test images."""
    count: int = 6
    """How many test images."""
    parts: tuple[str, ...] = ()
    """Stages for Grad-CAM, such as layer2; (): all of them."""


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", stage_sizes=(), epochs=164, batch_size=128, count=8),
}


@dataclass(frozen=True)
class Result:
    """Maps of the class that the network predicts for each image.

    Attributes:
      class_names: (): the classes are numbered.
      images: uint8 (n, h, w, channels), subsampled if large.
      labels: -1 if they are unknown.
      cam: (n, h, w), in units of logits.
      grad_cam: by part, (n, h, w) at the resolution of that part.
      error: the largest difference between a logit and the mean of its map plus the bias.
      similarity: by part, the mean cosine between Grad-CAM and the positive part of CAM, both
        enlarged to the size of the images.
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
    similarity: dict[str, float]


def run(settings: Settings, track: Track = silent) -> Result:
    """Explain the prediction for every image."""
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
    grad_cam, similarities = {}, {}
    for part in track(parts, "parts"):
        explain = jax.jit(lambda v, x, c, part=part: gradient_maps(model, v, x, c, part))
        found = explain(variables, images, predicted)
        similarities[part] = similarity(jax.nn.relu(cam), found, images.shape[1:3])
        grad_cam[part] = np.asarray(found)
    return Result(
        trained.name,
        "image files" if settings.images else trained.data.source,
        class_names,
        to_pixels(images, trained.data),
        labels,
        np.asarray(predicted),
        np.asarray(jax.nn.softmax(logits)[rows, predicted]),
        np.asarray(cam),
        grad_cam,
        float(abs(maps.mean((1, 2)) + head(model, variables)["bias"][None] - logits).max()),
        similarities,
    )


def chosen_images(
    settings: Settings, trained: Trained
) -> tuple[jax.Array, np.ndarray, tuple[str, ...]]:
    """Return the images to explain, their labels and the names of the classes.

    Raises:
      InputError: the data have a class that the network does not know.
    """
    config = trained.data
    if settings.images:
        labels = np.full(len(settings.images), UNKNOWN)
        return read_images(settings.images, config), labels, ()
    data = open_dataset(config)
    outputs = trained.model.num_classes
    test = for_outputs(data.test, trained.class_names, outputs, trained.name)
    images, truth = first_images(dataclasses.replace(data, test=test), settings.count, "test")
    return images, np.asarray(truth), test.class_names


def head(model: Classifier, variables: Variables) -> dict[str, jax.Array]:
    """Return the kernel (channels, classes) and the bias of the head."""
    leaves = variables["params"]
    for name in model.head_name.split("."):
        leaves = leaves[name]
    return {"kernel": leaves["kernel"].reshape(leaves["kernel"].shape[-2:]), "bias": leaves["bias"]}


def class_maps(
    model: Classifier, variables: Variables, images: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the logits and the class activation maps of all classes (n, h, w, classes).

    Raises:
      InputError: the head is not average pooling followed by a matrix.
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
    """Return the path of the last module before the head, and the activation after it."""
    stage = stage_path(model, stage_names(model)[-1])
    if isinstance(model, ResNet) and model.order != "pre":
        return stage, "identity"
    activation = "identity" if model.norm in ACTIVATING else model.activation
    norm = ("norm",) if isinstance(model, ResNet) else ("features", "norm5")
    return stage if model.norm == "none" else norm, activation


def similarity(first: jax.Array, second: jax.Array, side: tuple[int, ...]) -> float:
    """Return the mean cosine between maps (n, h, w), enlarged to `side`."""
    a, b = (
        jax.image.resize(maps, (len(maps), *side), "bilinear").reshape(len(maps), -1)
        for maps in (first, second)
    )
    lengths = jnp.linalg.norm(a, axis=1) * jnp.linalg.norm(b, axis=1)
    return float(((a * b).sum(1) / jnp.maximum(lengths, 1e-12)).mean())


def finding(result: Result) -> str:
    """Report how exact CAM is, and how similar Grad-CAM of each part is to it."""
    known, right = UNKNOWN not in result.labels, (result.predicted == result.labels).sum()
    said = f", {right} classified correctly" if known else ""
    cosines = ", ".join(f"{part} {value:.2f}" for part, value in result.similarity.items())
    return (
        f"{result.network} on {len(result.images)} images of {result.data}{said}: the means of "
        f"the class activation maps plus the bias equal the logits to {result.error:.1g}; cosine "
        f"similarity of Grad-CAM and the positive part of CAM by stage: {cosines}."
    )


def draw(result: Result) -> Figure:
    """Draw a row for each image."""
    columns = {"CAM": result.cam} | {
        f"Grad-CAM, {part}": maps for part, maps in result.grad_cam.items()
    }
    count = len(result.images)
    figure, axes = new_figure(count, 1 + len(columns), width=1.9, height=2.05)
    for row, panels in enumerate(axes):
        image = result.images[row]
        _show(panels[0], image, _title(result, row))
        for panel, (title, maps) in zip(panels[1:], columns.items(), strict=True):
            _show(panel, image, title if not row else "", behind=True)
            _overlay(panel, maps[row], image.shape[:2])
    figure.suptitle(
        f"Evidence for the predicted class: {result.network} on {result.data}\n"
        "red: evidence for it; blue: against it (CAM only); each map is scaled to its maximum"
    )
    return figure


def _show(panel: Any, image: np.ndarray, title: str, behind: bool = False) -> None:
    """Show an image; behind a map in light gray, so that only the map has colors."""
    height, width, channels = image.shape
    shown = image.mean(-1) if behind or channels == 1 else image
    darkest = -200 if behind else 0
    panel.imshow(shown, cmap="gray", vmin=darkest, vmax=255, extent=(0, width, height, 0))
    panel.set(xticks=[], yticks=[])
    panel.set_title(title, fontsize=8)
    panel.spines[:].set_visible(False)
    panel.grid(visible=False)


def _overlay(panel: Any, values: np.ndarray, size: tuple[int, int]) -> None:
    """Draw a map over an image, transparent where it is zero."""
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


def _title(result: Result, row: int) -> str:
    def name(label: int) -> str:
        return result.class_names[label] if result.class_names else str(label)

    found = f"{name(int(result.predicted[row]))} ({result.probability[row]:.0%})"
    true = int(result.labels[row])
    return f"predicted {found}" + ("" if true == UNKNOWN else f"\ntrue {name(true)}")
