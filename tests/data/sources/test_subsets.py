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


@pytest.mark.parametrize(
    ("places", "outputs", "expected"),
    [((3, 1), 5, (1, 3)), ((1, 0), 2, ()), ((0, 1, 2), 4, (0, 1, 2))],
)
def test_classes_that_are_matched_with_some_outputs_compete_among_these(
    places: tuple[int, ...], outputs: int, expected: tuple[int, ...]
) -> None:
    source = Relabeled(DATA, places, tuple(map(str, range(outputs))))
    assert competing_outputs(source, "folder:photos", outputs) == expected


def test_the_classes_that_occur_are_matched_too() -> None:
    source = Relabeled(DATA, tuple(reversed(range(1000))), tuple(map(str, range(1000))))
    found = competing_outputs(source, "tfds:imagenet_a", 1000)
    assert found == tuple(
        sorted(999 - label for label in occurring_classes("tfds:imagenet_a") or ())
    )
