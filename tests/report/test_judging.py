"""What a network makes of a split, picture by picture."""

from pathlib import Path

import numpy as np

from flax_resnet import restore
from flax_resnet.data import open_source
from flax_resnet.inference.confusion import confusion_matrix
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.report.judging import judge


def test_the_matrix_is_the_evaluations_and_mistakes_are_the_surest_of_all(tiny_run: Path) -> None:
    run = restore(tiny_run)
    judged = judge(run, shown=5)
    np.testing.assert_array_equal(judged.confusion, confusion_matrix(run))
    everything = judge(run, shown=10**6).mistakes
    wrong = judged.confusion.sum() - judged.confusion.trace()
    assert len(everything) == wrong
    surest = sorted((mistake.probability for mistake in everything), reverse=True)
    assert [mistake.probability for mistake in judged.mistakes] == surest[:5]
    assert all(mistake.truth != mistake.found for mistake in everything)


def test_a_mistake_shows_the_picture_that_it_names(tiny_run: Path) -> None:
    run = restore(tiny_run)
    source = open_source(run.config.data, run.config.data.eval_split)
    prepare = open_predictor(tiny_run).prepare
    for mistake in judge(run, shown=3).mistakes:
        (index,) = (at for at in range(len(source)) if source.describe(at) == mistake.where)
        assert source[index]["label"] == mistake.truth
        np.testing.assert_array_equal(mistake.pixels, prepare(source[index]["image"]))


def test_of_a_large_split_pictures_are_taken_evenly(tiny_run: Path) -> None:
    run = restore(tiny_run)
    total = confusion_matrix(run).sum()
    judged = judge(run, most=10, shown=10)
    assert (judged.confusion.sum(), judged.pictures) == (10, total)
    numbers = sorted(int(mistake.where.split()[1]) for mistake in judged.mistakes)
    assert numbers[-1] > total // 2
