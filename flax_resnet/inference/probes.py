"""What a network's features are worth on other data: a k-NN classifier and a linear one."""

import contextlib
import warnings
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flax_resnet.data import DataConfig, Source, eval_batches
from flax_resnet.errors import InputError
from flax_resnet.inference.predictor import Predictor
from flax_resnet.inference.scores import Scores, score
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.evaluation import divisible_eval_batch

# Of the weights of neighbors, exp(cosine / temperature), as in arXiv:1805.01978.
KNN_TEMPERATURE = 0.07
NEIGHBORS = 20
# The strengths of the linear probe's weights among which a fifth of the training images chooses.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_HELD_OUT, _ITERATIONS, _SEED = 0.2, 1_000, 0
# Folds that predict each image by a probe that has not seen it.
FOLDS = 5
# Instead of a probability of 0, whose logarithm is not finite.
_SMALLEST = 1e-12


class Features(NamedTuple):
    """The features of the images of a split that can be decoded."""

    rows: Float[np.ndarray, "n channels"]
    labels: Int[np.ndarray, " n"]
    places: Int[np.ndarray, " n"]
    """The position of each image in the source."""


def split_features(
    predictor: Predictor, source: Source, data: DataConfig, stage: str | None = None
) -> Features:
    """Return the features of every image, prepared as in the network's evaluation.

    Raises:
      InputError: no image can be decoded, or the network has no such stage.
    """
    parts: list[Features] = []
    start = 0
    config = divisible_eval_batch(data, data_mesh())
    with contextlib.closing(eval_batches(source, config)) as batches:
        for batch in batches:
            rows = np.flatnonzero(batch["mask"])
            found = predictor.features(batch["image"], stage)
            parts.append(Features(found[rows], np.asarray(batch["label"])[rows], start + rows))
            start += len(batch["mask"])
    features = Features(*map(np.concatenate, zip(*parts, strict=True)))
    if not len(features.labels):
        raise InputError(f"{source.name} has no image that can be decoded")
    return features


def knn_scores(train: Features, test: Features, neighbors: int = NEIGHBORS) -> Scores:
    """Return the answers of the neighbors' vote, weighted by cosine (arXiv:1805.01978).

    Raises:
      InputError: there are fewer training images than neighbors.
    """
    from sklearn.neighbors import KNeighborsClassifier

    if not 1 <= neighbors <= len(train.labels):
        raise InputError(
            f"--neighbors is {neighbors}; expected 1 to {len(train.labels):,}, the number of "
            "training images"
        )
    probe = KNeighborsClassifier(
        neighbors,
        metric="cosine",
        algorithm="brute",
        weights=lambda distances: np.exp(-distances / KNN_TEMPERATURE),
    )
    probe.fit(train.rows, train.labels)
    return _answers(probe, test)


def linear_scores(train: Features, test: Features) -> tuple[Scores, float]:
    """Return the answers of a logistic regression, and the strength `C` of its weights.

    Features are standardized. A fifth of the training images chooses the strength, and a probe of
    that strength is fitted to all of them.

    Raises:
      InputError: the training images are too few, or of a single class.
    """
    order = np.random.default_rng(_SEED).permutation(len(train.labels))
    held, fitted = np.split(order, [max(round(_HELD_OUT * len(order)), 1)])
    _check_classes(train.labels[fitted])
    strength = max(
        STRENGTHS,
        key=lambda each: float(
            _fitted(train, fitted, each).score(train.rows[held], train.labels[held])
        ),
    )
    return _answers(_fitted(train, order, strength), test), strength


def held_out_scores(features: Features, strength: float) -> Scores:
    """Return the answers for each image by a linear probe that was not fitted to it.

    Raises:
      InputError: the images are too few, or of a single class.
    """
    from sklearn.model_selection import KFold

    if len(features.labels) < FOLDS:
        raise InputError(
            f"found {len(features.labels)} training images; expected at least {FOLDS}, because "
            "each is judged by a probe that is fitted to others"
        )
    parts, rows = [], []
    for fitted, held in KFold(FOLDS, shuffle=True, random_state=_SEED).split(features.labels):
        _check_classes(features.labels[fitted])
        part = Features(*(values[held] for values in features))
        parts.append(_answers(_fitted(features, fitted, strength), part))
        rows.append(held)
    order = np.argsort(np.concatenate(rows))
    return Scores(*(np.concatenate(values)[order] for values in zip(*parts, strict=True)))


def _check_classes(labels: np.ndarray) -> None:
    if len(np.unique(labels)) < 2:
        raise InputError(
            f"a linear probe would be fitted to {len(labels):,} images of one class; expected "
            "several images of each of two or more classes"
        )


def _fitted(features: Features, rows: np.ndarray, strength: float) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_ITERATIONS))
    with warnings.catch_warnings():
        # After so many iterations the answers hardly change any more.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return probe.fit(features.rows[rows], features.labels[rows])


def _answers(probe: Any, test: Features) -> Scores:
    """Return the answers of a fitted classifier, which may not know all classes."""
    shares = probe.predict_proba(test.rows)
    classes = 1 + max(int(probe.classes_.max()), int(test.labels.max()))
    every = np.zeros((len(test.labels), classes))
    every[:, probe.classes_] = shares
    return score(np.log(np.maximum(every, _SMALLEST)), test.labels)
