"""Evaluation of data with several labels, or with fewer classes than they are numbered by."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from flax_resnet import InputError
from flax_resnet.data import DataConfig, Example
from flax_resnet.data.sources.open import OPENERS
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.checks import check_task
from flax_resnet.training.runs import evaluate_model


@dataclass(frozen=True)
class Made:
    """Image i is full of the value i, with the label or the labels i."""

    labels: tuple[Any, ...]
    num_classes: int = 1000
    name: str = "made test"
    class_names: tuple[str, ...] = ()
    named: bool = True

    @property
    def several_labels(self) -> bool:
        return isinstance(self.labels[0], tuple)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return {"image": np.full((2, 2, 1), index, np.uint8), "label": self.labels[index]}

    def describe(self, index: int) -> str:
        return f"image {index}"


class Ranked(nn.Module):
    """For image i, class `first[i]` has the largest logit and class `second[i]` the next."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    num_classes: int = 1000

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        del train
        number = (images[:, 0, 0, 0] * 255).round().astype(int)
        best, next_best = (
            jax.nn.one_hot(jax.numpy.asarray(classes)[number], self.num_classes)
            for classes in (self.first, self.second)
        )
        return 9 * best + 5 * next_best


def evaluated(
    monkeypatch: pytest.MonkeyPatch,
    made: Made,
    source: str,
    model: Any,
    class_names: tuple[str, ...] = (),
) -> dict[str, float]:
    monkeypatch.setitem(OPENERS, "tfds", lambda *_: made)
    data = DataConfig(
        source=source, channels=1, mean=(0.0,), std=(1.0,), image_size=2, eval_crop=1.0, workers=0
    )
    mesh = data_mesh(jax.devices()[:1])
    return evaluate_model(model, {}, data, mesh=mesh, class_names=class_names)


def test_real_labels_are_right_if_one_of_them_is_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Ranked(first=(7, 7, 7, 7), second=(1, 2, 3, 4))
    made = Made(((3, 7), (2,), (), (7,)))
    metrics = evaluated(monkeypatch, made, "tfds:imagenet2012_real", model)
    counts = {key: metrics[key] for key in ("count", "unlabeled", "skipped")}
    assert counts == {"count": 3, "unlabeled": 1, "skipped": 0}
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["top5"] == 1


def test_only_the_classes_of_imagenet_a_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    # 0 and 1 are not among its classes, 6 and 11 are.
    model = Ranked(first=(0, 1, 11), second=(6, 11, 6))
    made = Made((6, 6, 11))
    plain = evaluated(monkeypatch, made, "tfds:imagenet2012", model)
    assert plain["top1"] == pytest.approx(1 / 3)
    restricted = evaluated(monkeypatch, made, "tfds:imagenet_a", model)
    assert "competing_classes" not in plain
    assert restricted["competing_classes"] == 200
    assert restricted["top1"] == pytest.approx(2 / 3)
    # In the first image the logit of 6 is 5, and those of 199 others are 0.
    expected = [
        np.log(np.exp(5) + 199) - 5,
        np.log(np.exp(5) + 199),
        np.log(np.exp(9) + np.exp(5) + 198) - 9,
    ]
    assert restricted["loss"] == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("labels", [(0, 1, 0), ((0,), (1, 0), (0,))])
def test_only_the_classes_of_the_data_compete(
    labels: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The data's classes are the outputs 2 and 0; the best output of the last image is another.
    model = Ranked(first=(2, 0, 1), second=(0, 2, 2), num_classes=3)
    made = Made(labels, num_classes=2, class_names=("owl", "cat"))
    metrics = evaluated(monkeypatch, made, "tfds:photos", model, ("cat", "dog", "owl"))
    assert (metrics["competing_classes"], metrics["top1"], metrics["top5"]) == (2, 1, 1)


def test_several_labels_are_for_evaluation_alone() -> None:
    with pytest.raises(InputError, match="any number of labels for an image; expected one"):
        check_task(Made(((1, 2),)), "classification")
