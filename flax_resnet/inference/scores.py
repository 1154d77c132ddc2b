"""The predictions of a network for each image of a split, from which measures are computed."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from flax_resnet.data import Batch, DataConfig, Source, eval_batches, open_source
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.models import Network
from flax_resnet.steps.mesh import data_mesh, device_rows, put_batch, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.classification import TOP_K
from flax_resnet.steps.tasks.table import CLASSIFICATION
from flax_resnet.training.checks import check_task
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.evaluation import divisible_eval_batch

# Batches that the devices compute while the host reads the one before.
_AHEAD = 1


class Scores(NamedTuple):
    """The answers for images that have one label each."""

    truth: Int[np.ndarray, " n"]
    predicted: Int[np.ndarray, " n"]
    confidence: Float[np.ndarray, " n"]
    """The probability of the predicted class."""
    loss: Float[np.ndarray, " n"]
    """The cross-entropy: minus the logarithm of the probability of the true class."""
    top5: Bool[np.ndarray, " n"]
    """Whether the true class is among the first five."""

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Return which images are classified correctly."""
        return self.truth == self.predicted


class ScoredBatch(NamedTuple):
    """Images as the network receives them, with its logits."""

    images: np.ndarray
    logits: Float[np.ndarray, "n classes"]
    truth: Int[np.ndarray, " n"]
    counted: Bool[np.ndarray, " n"]
    """False in padding, and where an image cannot be decoded."""


def open_labeled(
    data: DataConfig, split: str, names: tuple[str, ...], model: Network, name: str
) -> Source:
    """Return a split whose labels are numbered as the outputs of a network.

    Args:
      names: of the network's classes; () where they are not known.
      name: of the network, for errors.

    Raises:
      InputError: the data are for another task, or have a class that the network does not know.
    """
    source = open_source(data, split)
    check_task(source, "classification", several_labels=True)
    return for_outputs(source, names, model.num_classes, name)


def scored_batches(
    model: Network,
    variables: Mapping[str, Any],
    source: Source,
    data: DataConfig,
    mesh: Mesh | None = None,
    outputs_of: Source | None = None,
) -> Iterator[ScoredBatch]:
    """Yield every batch of a source, computed as in the evaluation.

    Args:
      source: what `open_labeled` returns, or a sample of it.
      outputs_of: the source that a sample is of.
    """
    mesh = mesh or data_mesh()
    step = make_eval_step(
        model,
        mesh,
        mean=data.mean,
        std=data.std,
        task=dataclasses.replace(CLASSIFICATION, sums=_answers),
        flip=data.eval_flip,
        outputs=competing_outputs(outputs_of or source, data.source, model.num_classes),
    )
    copies = jax.device_put(dict(variables), replicated(mesh))
    batches = eval_batches(
        source,
        divisible_eval_batch(data, mesh),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    waiting: deque[tuple[Batch, Any]] = deque()
    with contextlib.closing(batches):
        for batch in batches:
            waiting.append((batch, step(copies, put_batch(device_rows(batch), mesh))))
            if len(waiting) > _AHEAD:
                yield _read(*waiting.popleft())
        while waiting:
            yield _read(*waiting.popleft())


def _read(batch: Batch, answers: Any) -> ScoredBatch:
    found = jax.device_get(answers)
    return ScoredBatch(batch["image"], found["logits"], found["label"], found["mask"].astype(bool))


def _answers(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    return {"logits": logits, "label": batch["label"], "mask": batch["mask"]}


def score(
    logits: Float[np.ndarray, "n classes"],
    truth: Int[np.ndarray, " n"],
    temperature: float = 1.0,
) -> Scores:
    """Return the answers that logits stand for.

    Args:
      temperature: divides the logits; it changes confidence and loss alone.
    """
    wide = np.asarray(logits, np.float64) / temperature
    logs = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
    # Equal logits rank as in the evaluation: the first class first.
    best = np.argsort(-logits, axis=1, kind="stable")[:, :TOP_K]
    rows = np.arange(len(truth))
    return Scores(
        truth,
        best[:, 0],
        np.exp(logs[rows, best[:, 0]]),
        -logs[rows, truth],
        (best == truth[:, None]).any(1),
    )


def score_split(
    batches: Iterator[ScoredBatch],
    temperature: float = 1.0,
    on_batch: Callable[[ScoredBatch, Scores], None] = lambda batch, scores: None,
) -> tuple[Scores, Scores]:
    """Return the answers for all images that count, and those at the temperature.

    Args:
      on_batch: called with each batch and the answers for its images that count.
    """
    plain, tempered = [_NONE], [_NONE]
    for batch in batches:
        logits, truth = batch.logits[batch.counted], batch.truth[batch.counted]
        plain.append(score(logits, truth))
        tempered.append(plain[-1] if temperature == 1 else score(logits, truth, temperature))
        on_batch(batch, plain[-1])
    return _joined(plain), _joined(tempered)


_NONE = Scores(
    np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0), np.zeros(0), np.zeros(0, bool)
)


def _joined(parts: list[Scores]) -> Scores:
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))
