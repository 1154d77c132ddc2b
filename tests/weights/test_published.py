"""The table of published weights."""

from __future__ import annotations

import re

import pytest

from flax_resnet import InputError, list_models
from flax_resnet.weights import find_published, list_pretrained
from flax_resnet.weights.accuracies import Accuracy, accuracies_of

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
EVERY = list_pretrained()


def test_the_table_has_two_hundred_rows() -> None:
    assert len(EVERY) == len(set(EVERY)) == 200
    assert sorted(EVERY) == EVERY


def test_every_architecture_can_be_created() -> None:
    assert {find_published(name).architecture for name in EVERY} <= set(list_models())


@pytest.mark.parametrize("name", EVERY)
def test_every_row_is_plausible(name: str) -> None:
    row = find_published(name)
    assert (row.repository, f"{row.architecture}.{row.tag}") == (f"timm/{name}", name)
    assert row.num_classes in (0, 1000, 11821, 21843)
    assert row.image_size % 16 == 0
    assert row.test_image_size is None or row.test_image_size > row.image_size
    assert 0.8 < row.crop_fraction <= (row.test_crop_fraction or 1) <= 1
    assert row.interpolation in ("bicubic", "bilinear")
    assert (row.mean, row.std) in (IMAGENET, ((0.5,) * 3, (0.5,) * 3))
    assert row.license in ("apache-2.0", "bsd-3-clause", "cc-by-nc-4.0", None)
    assert row.origin


@pytest.mark.parametrize(
    ("name", "top1"),
    [
        ("resnet50.tv_in1k", 76.156),  # 224 pixels, crop 0.875
        ("resnet50.tv2_in1k", 80.846),  # 224, where 176 has 79.434
        ("resnet50.a1_in1k", 81.240),  # 288, where 224 has 80.382
        ("resnet50.a3_in1k", 78.052),  # 224, where 160 has less
    ],
)
def test_known_accuracies(name: str, top1: float) -> None:
    accuracy = find_published(name).accuracy()
    assert accuracy is not None
    assert accuracy.top1 == top1


def test_accuracies_of_the_other_test_sets() -> None:
    found = find_published("resnet50.tv_in1k").accuracy()
    assert found == Accuracy(224, 76.156, 92.866, 82.969, 63.190, None, 36.157, 24.064)


@pytest.mark.parametrize("name", EVERY)
def test_every_accuracy_was_measured_with_the_preprocessing_of_evaluation(name: str) -> None:
    row = find_published(name)
    found = {row.accuracy(train_size) for train_size in (False, True)} - {None}
    # None of the table is left over, and only other classes have none.
    assert found == set(accuracies_of(name).values())
    assert bool(found) == (row.accuracy() is not None) == (row.num_classes == 1000)
    for accuracy in found:
        assert accuracy.image_size in (row.image_size, row.test_image_size)
        assert 40 < accuracy.top1 < accuracy.top5 < 100
        assert accuracy.sketch < accuracy.v2 < accuracy.top1 < accuracy.real


def test_nothing_is_known_of_other_names() -> None:
    assert accuracies_of("resnet50.mine") == {}


def test_names_are_selected_by_shell_patterns() -> None:
    assert list_pretrained("resnet50.tv*") == ["resnet50.tv2_in1k", "resnet50.tv_in1k"]
    assert list_pretrained("vgg*") == []


def test_names_can_include_the_owner() -> None:
    assert find_published("timm/resnet18.a1_in1k") == find_published("resnet18.a1_in1k")


def test_weights_without_a_head_have_no_classes() -> None:
    assert find_published("resnet50.bamboo").num_classes == 0


def test_an_architecture_alone_is_an_error_that_lists_its_tags() -> None:
    with pytest.raises(InputError, match=r"choose one of resnet34d\.ra2_in1k") as caught:
        find_published("resnet34d")
    assert "resnet34." not in str(caught.value)


def test_an_unknown_name_is_an_error_with_similar_ones() -> None:
    with pytest.raises(InputError, match=r"Did you mean .*'resnet50\.a1_in1k'"):
        find_published("timm/resnet50.a1_in1")
    with pytest.raises(InputError, match=re.escape("not one of the 200 known names")):
        find_published("vgg16.tv_in1k")


def test_preprocessing_for_training_and_for_the_best_accuracy() -> None:
    weights = find_published("resnet50.a1_in1k")
    test, own = weights.preprocessing(), weights.preprocessing(train_size=True)
    assert (own.image_size, own.crop_fraction) == (224, 0.95)
    assert (test.image_size, test.crop_fraction) == (288, 1.0)
    assert own.interpolation == test.interpolation == "bicubic"
    assert (test.mean, test.std) == IMAGENET


def test_missing_test_preprocessing_equals_that_of_training() -> None:
    weights = find_published("resnet50.tv_in1k")
    assert weights.preprocessing() == weights.preprocessing(train_size=True)
    found = find_published("resnetrs50.tf_in1k").preprocessing()
    assert (found.image_size, found.crop_fraction) == (224, 0.91)
