"""ImageNet-A and ImageNet-R are scored over their own 200 classes."""

import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.classes import Relabeled
from flax_resnet.data.sources.subsets import competing_outputs, occurring_classes
from flax_resnet.weights.published import imagenet_classes

DATA = open_source(DataConfig(source="synthetic:1000"), "test")


@pytest.mark.parametrize(
    ("source", "inside", "outside"),
    [
        ("tfds:imagenet_a", ("goldfinch, Carduelis carduelis", "toaster"), ("tench, Tinca tinca",)),
        ("tfds:imagenet_r:0.2.0", ("goldfish, Carassius auratus", "pizza, pizza pie"), ("maze",)),
    ],
)
def test_two_hundred_classes_of_a_thousand_occur(
    source: str, inside: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    found = occurring_classes(source)
    assert found is not None
    assert len(set(found)) == 200
    names = {imagenet_classes()[label].split(",")[0] for label in found}
    assert {name.split(",")[0] for name in inside} <= names
    assert not {name.split(",")[0] for name in outside} & names
    assert competing_outputs(DATA, source, 1000) == found


@pytest.mark.parametrize("source", ["tfds:imagenet2012", "folder:imagenet_a", "tfds:imagenet_v2"])
def test_elsewhere_all_classes_occur(source: str) -> None:
    assert occurring_classes(source) is None
    assert competing_outputs(DATA, source, 1000) == ()


def test_folders_of_the_two_hundred_classes_are_known_by_these() -> None:
    places = tuple(reversed(occurring_classes("tfds:imagenet_r") or ()))
    source = Relabeled(DATA, places, tuple(map(str, range(1000))))
    assert competing_outputs(source, "folder:photos", 1000) == tuple(sorted(places))


def test_all_outputs_compete_for_data_with_some_of_the_classes() -> None:
    source = Relabeled(DATA, (3, 1), tuple(map(str, range(5))))
    assert competing_outputs(source, "folder:photos", 5) == ()


def test_the_classes_that_occur_are_matched_too() -> None:
    source = Relabeled(DATA, tuple(reversed(range(1000))), tuple(map(str, range(1000))))
    found = competing_outputs(source, "tfds:imagenet_a", 1000)
    assert found == tuple(
        sorted(999 - label for label in occurring_classes("tfds:imagenet_a") or ())
    )
