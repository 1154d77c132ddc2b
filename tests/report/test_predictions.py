"""Predictions of a split: the confusion matrix and the most confident mistakes."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from flax_resnet import evaluate_run, restore
from flax_resnet.data import open_source
from flax_resnet.inference.confusion import confusion_matrix
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.report.predictions import predict_split


def test_the_matrix_equals_the_evaluations_and_the_most_confident_mistakes_are_kept(
    tiny_run: Path,
) -> None:
    run = restore(tiny_run)
    predictions = predict_split(run, shown=5)
    np.testing.assert_array_equal(predictions.confusion, confusion_matrix(run))
    for name, value in evaluate_run(run).items():
        assert predictions.metrics.get(name, value) == pytest.approx(value)
    mistakes = predict_split(run, shown=10**6).mistakes
    assert len(mistakes) == predictions.confusion.sum() - predictions.confusion.trace()
    surest = sorted((mistake.probability for mistake in mistakes), reverse=True)
    assert [mistake.probability for mistake in predictions.mistakes] == surest[:5]
    assert all(mistake.truth != mistake.predicted for mistake in mistakes)


def test_a_mistake_shows_the_image_that_it_names(tiny_run: Path) -> None:
    run = restore(tiny_run)
    source = open_source(run.config.data, run.config.data.eval_split)
    prepare = open_predictor(tiny_run).prepare
    for mistake in predict_split(run, shown=3).mistakes:
        (index,) = (at for at in range(len(source)) if source.place(at) == mistake.where)
        assert source[index]["label"] == mistake.truth
        np.testing.assert_array_equal(mistake.pixels, prepare(source[index]["image"]))


def test_mirror_images_count_as_in_the_evaluation(tiny_run: Path) -> None:
    run = restore(tiny_run)
    data = dataclasses.replace(run.config.data, eval_flip=True)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    np.testing.assert_array_equal(predict_split(run).confusion, confusion_matrix(run))


@pytest.mark.slow
def test_images_of_a_large_split_are_sampled_evenly(tiny_run: Path) -> None:
    run = restore(tiny_run)
    total = confusion_matrix(run).sum()
    predictions = predict_split(run, max_images=10, shown=10)
    assert (predictions.confusion.sum(), predictions.images) == (10, total)
    numbers = sorted(int(mistake.where.split()[1]) for mistake in predictions.mistakes)
    assert numbers[-1] > total // 2
