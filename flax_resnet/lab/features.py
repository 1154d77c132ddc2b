"""Features: nearest neighbors in a network's feature space, and an embedding of it.

Neighbors are found by the cosine similarity of features, as in figure 4 of Krizhevsky et al. 2012:
if a network separates classes, the neighbors of a test image among the training images have its
class. The pixels themselves and a network with random weights are the baselines.
"""

from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from flax_resnet.errors import InputError, require_known
from flax_resnet.inference.explain import Classifier
from flax_resnet.lab.datasets import first_images, open_dataset
from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.fit import Variables
from flax_resnet.lab.style import COLORS, new_figure
from flax_resnet.lab.weights import OneNetwork, obtain, random_variables, to_pixels

KINDS = ("random", "trained")
EMBEDDINGS = ("tsne", "pca")
_BATCH = 128


_KIND_COLORS = {"random": COLORS[6], "trained": COLORS[2]}
NAMED = 10  # at most this many classes are named in a legend; more would hide the points


@dataclass(frozen=True)
class Settings(OneNetwork):
    """The network, and how its features are searched and embedded."""

    stage_sizes: tuple[int, ...] = (1, 1, 1)
    epochs: int = 10
    neighbours: int = 5
    limit: int = 1500
    """Number of training images to search, and the largest number of test images."""
    embedding: str = "tsne"
    """tsne or pca"""
    queries: int = 5
    """Number of test images to draw with their neighbors."""

    def __post_init__(self) -> None:
        """Refuse an unknown embedding and numbers of neighbors out of range."""
        super().__post_init__()
        require_known("embedding", self.embedding, EMBEDDINGS)
        if not 1 <= self.neighbours <= self.limit:
            raise InputError(
                f"neighbours is {self.neighbours}; expected from 1 to limit, which is {self.limit}"
            )


SIZES = {
    "small": Settings(),
    "paper": Settings(data="cifar10", stage_sizes=(), epochs=164, batch_size=128, limit=10000),
}


@dataclass(frozen=True)
class Result:
    """Metrics by kind of network and by part.

    Attributes:
      parts: `pixels` are the images themselves, `pooled` is the input of the head.
      count: number of training images.
      accuracy: of the trained network's own head; None if it has other classes.
      same: fraction of the neighbors with the test image's class: (kind, part).
      vote: accuracy of the neighbors' majority vote: (kind, part).
      embedding: of the test images' pooled features: (kind, n, 2).
      labels: of the test images.
      shown, shown_labels: test images, each followed by its neighbors in the trained network:
        uint8 (queries, 1 + neighbors, h, w, channels).
    """

    network: str
    data: str
    class_names: tuple[str, ...]
    kinds: tuple[str, ...]
    parts: tuple[str, ...]
    count: int
    neighbours: int
    method: str
    accuracy: float | None
    same: np.ndarray
    vote: np.ndarray
    embedding: np.ndarray
    labels: np.ndarray
    shown: np.ndarray
    shown_labels: np.ndarray


def run(settings: Settings, track: Track = silent) -> Result:
    """Compute the features of training and test images with both networks, and search them."""
    trained = obtain(settings)
    model, data = trained.model, open_dataset(trained.data)
    (images, labels), (queries, query_labels) = (
        (x, np.asarray(y))
        for x, y in (first_images(data, settings.limit, split) for split in ("train", "test"))
    )
    first = random_variables(model, jax.random.key(settings.seed), images[:_BATCH])
    variables = dict(zip(KINDS, (first, trained.variables), strict=True))
    same, vote, embedding, found = [], [], [], {}
    for kind in track(KINDS, "networks"):
        known, asked = (describe(model, variables[kind], x) for x in (images, queries))
        logits = asked.pop("logits")
        found = {part: nearest(known[part], asked[part], settings.neighbours) for part in asked}
        voted = {part: labels[rows] for part, rows in found.items()}
        same.append([np.mean(near == query_labels[:, None]) for near in voted.values()])
        vote.append([np.mean(majority(near) == query_labels) for near in voted.values()])
        embedding.append(embed(asked["pooled"], settings.embedding, settings.seed))
    fits = data.test.num_classes == model.num_classes
    rows = np.linspace(0, len(queries) - 1, min(settings.queries, len(queries))).astype(int)
    near = found["pooled"][rows]
    pixels = [to_pixels(x, trained.data) for x in (queries[rows], images[near])]
    return Result(
        trained.name,
        trained.data.source,
        tuple(data.test.class_names),
        KINDS,
        tuple(found),
        len(images),
        settings.neighbours,
        settings.embedding,
        float(np.mean(logits.argmax(-1) == query_labels)) if fits else None,
        np.array(same),
        np.array(vote),
        np.array(embedding),
        query_labels,
        np.concatenate([pixels[0][:, None], pixels[1]], axis=1),
        np.concatenate([query_labels[rows][:, None], labels[near]], axis=1),
    )


def describe(model: Classifier, variables: Variables, images: jax.Array) -> dict[str, np.ndarray]:
    """Return features (n, d) by part: pixels, averaged maps, pooled features and `logits`."""
    stages = ["stem", *(f"layer{number}" for number in range(1, len(model.stage_sizes)))]

    @jax.jit
    def step(variables: Variables, images: jax.Array) -> list[jax.Array]:
        maps = cast(Any, model.apply(variables, images, method="features"))
        pooled = model.clone(num_classes=0).apply(variables, images)
        means = [maps[name].mean((1, 2)) for name in stages]
        return [*means, jnp.asarray(pooled), jnp.asarray(model.apply(variables, images))]

    padding = ((0, -len(images) % _BATCH), (0, 0), (0, 0), (0, 0))
    padded = jnp.pad(images, padding)  # one shape, so one compilation
    batches = [
        jax.device_get(step(variables, padded[start : start + _BATCH]))
        for start in range(0, len(padded), _BATCH)
    ]
    found = [np.concatenate(parts)[: len(images)] for parts in zip(*batches, strict=True)]
    pixels = np.asarray(images).reshape(len(images), -1)
    return dict(zip(("pixels", *stages, "pooled", "logits"), (pixels, *found), strict=True))


def nearest(known: np.ndarray, asked: np.ndarray, count: int) -> np.ndarray:
    """Return the rows of `known` with the largest cosine to each row of `asked`, nearest first."""
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(known))
    search = NearestNeighbors(n_neighbors=count, metric="cosine", algorithm="brute").fit(known)
    return np.asarray(search.kneighbors(asked, return_distance=False))


def majority(labels: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each row; in a tie, that of the nearest neighbor."""
    votes = (labels[:, :, None] == labels[:, None]).sum(-1)
    return labels[np.arange(len(labels)), votes.argmax(1)]


def embed(features: np.ndarray, method: str, seed: int) -> np.ndarray:
    """Return a 2-D embedding of the directions of the features, (n, 2)."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    directions = features / np.maximum(lengths, 1e-12)
    if method == "pca":
        return np.asarray(PCA(2, random_state=seed).fit_transform(directions))
    perplexity = min(30.0, (len(features) - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed)
    return np.asarray(plane.fit_transform(directions))


def finding(result: Result) -> str:
    """Compare the vote of the neighbors with the head, random weights and pixels."""
    random, trained = result.vote
    own = "" if result.accuracy is None else f"; the network's own head: {result.accuracy:.1%}"
    grows = ", ".join(
        f"{part} {share:.1%}" for part, share in zip(result.parts, result.same[1], strict=True)
    )
    return (
        f"The vote of {result.neighbours} neighbors among {result.count} training images of "
        f"{result.data} is correct for {trained[-1]:.1%} of {len(result.labels)} test images with "
        f"the features of {result.network}, for {random[-1]:.1%} with random weights and for "
        f"{trained[0]:.1%} with pixels{own}. Neighbors of the same class by part: {grows}."
    )


def draw(result: Result) -> Figure:
    """Draw an embedding for each network, the accuracy of the neighbors, and some of them."""
    figure, axes = new_figure(2, 2, width=5, height=4)
    for panel, kind, places in zip(axes[0], result.kinds, result.embedding, strict=True):
        _map(panel, places, result)
        panel.set_title(f"test images by pooled features, {kind} weights ({result.method})")
    if len(np.unique(result.labels)) <= NAMED:
        axes[0, 1].legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    _shares(axes[1, 0], result)
    _neighbors(axes[1, 1], result)
    figure.suptitle(f"Features of {result.network} on {result.data}")
    return figure


def _map(panel: Any, places: np.ndarray, result: Result) -> None:
    classes = np.unique(result.labels)
    shades = colormaps["tab10" if len(classes) <= NAMED else "nipy_spectral"]
    for number, label in enumerate(classes):
        color = shades(number if len(classes) <= NAMED else number / len(classes))
        name = result.class_names[label] if result.class_names else str(label)
        rows = places[result.labels == label]
        panel.scatter(rows[:, 0], rows[:, 1], s=8, color=color, label=name, linewidths=0)
    panel.set(xticks=[], yticks=[])
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)


def _shares(panel: Any, result: Result) -> None:
    spots = np.arange(len(result.parts))
    for kind, same, vote in zip(result.kinds, result.same, result.vote, strict=True):
        color = _KIND_COLORS[kind]
        panel.plot(spots, 100 * same, "-o", color=color, markersize=3, label=f"{kind}: same class")
        panel.plot(spots, 100 * vote, ":s", color=color, markersize=3, label=f"{kind}: vote")
    if result.accuracy is not None:
        panel.axhline(100 * result.accuracy, color="black", linewidth=0.8, label="trained: head")
    panel.set_xticks(spots, result.parts)
    panel.set(
        title=f"{result.neighbours} nearest training images of each test image",
        xlabel="features",
        ylabel="% of neighbors or images",
    )
    panel.legend()


def _neighbors(panel: Any, result: Result) -> None:
    """Draw the images as a grid; neighbors of another class get a frame."""
    rows, columns, height, width, _ = result.shown.shape
    tiles = np.moveaxis(result.shown, 1, 2).reshape(rows * height, columns * width, -1)
    panel.imshow(tiles.squeeze(), cmap="gray", vmin=0, vmax=255)
    for row, labels in enumerate(result.shown_labels):
        for column in np.flatnonzero(labels != labels[0]):
            corner = (column * width, row * height)
            frame = Rectangle(corner, width - 1, height - 1, fill=False, edgecolor=COLORS[1], lw=2)
            panel.add_patch(frame)
    for line in range(1, rows):
        panel.axhline(line * height - 0.5, color="white", linewidth=2)
    for line in range(1, columns):
        panel.axvline(line * width - 0.5, color="white", linewidth=6 if line == 1 else 2)
    panel.set(yticks=[])
    centers = width * (np.arange(columns) + 0.5)
    panel.set_xticks(centers, ["query", *map(str, range(1, columns))])
    panel.set_xlabel("neighbor, nearest first (framed: another class)")
    panel.set_title("test images and their neighbors, trained weights")
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
