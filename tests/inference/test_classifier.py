"""Images in, names of classes out."""

from pathlib import Path

import numpy as np
import pytest

import flax_resnet
from flax_resnet import Classifier, InputError, preprocessing, restore


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)


def test_one_image_gives_the_best_classes_and_several_a_list_of_these(
    tiny_run: Path, pixels: np.ndarray
) -> None:
    classifier = Classifier(tiny_run, batch_size=2)
    several = classifier(list(pixels), top=3)
    assert [len(found) for found in several] == [3, 3, 3]
    assert classifier(pixels[1], top=3) == several[1]
    run = restore(tiny_run)
    logits = run.model.apply(run.variables, preprocessing(tiny_run)(pixels))
    best = [run.class_names[at] for at in np.asarray(logits).argmax(-1)]
    assert [found[0][0] for found in several] == best
    assert classifier.class_names == run.class_names
    scores = [score for _, score in classifier(pixels[0], top=99)]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert (classifier([]), len(classifier(pixels[0]))) == ([], 5)


@pytest.mark.parametrize("top", [0, -1, 2.0, True])
def test_a_number_of_classes_that_is_none_is_an_error(tiny_run: Path, top: object) -> None:
    with pytest.raises(InputError, match=r"top is .*; expected a number of classes, at least 1"):
        Classifier(tiny_run)(np.zeros((8, 8, 3), np.uint8), top=top)


def test_heads_of_larger_imagenets_have_names() -> None:
    names = flax_resnet.class_names("resnetaa50d.sw_in12k")
    assert (len(names), names[0], names[-1]) == (11821, "benthos", "knothole")
    names = flax_resnet.class_names("timm/resnetv2_50x1_bit.goog_in21k")
    assert (len(names), names[0]) == (21843, "organism, being")
    assert "tench, Tinca tinca" in names
    assert flax_resnet.class_names("resnet50.bamboo") == ()
