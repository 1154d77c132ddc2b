"""Data and networks number their classes differently; names say which are the same."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data.sources.folder import FolderSource
from flax_resnet.data.sources.synthetic import SyntheticSource
from flax_resnet.errors import InputError
from flax_resnet.training.classes import check_same_classes, class_outputs, for_outputs
from flax_resnet.weights import imagenet_class, imagenet_classes

RUN = ("cat", "dog", "owl")
NUMBERS = tuple(map(str, range(1000)))


def source(*names: str, file: Path = Path("a.png")) -> FolderSource:
    """Return a source of these classes, with an image of each."""
    files = np.array([str(file).encode()] * len(names))
    return FolderSource("folder:p train", "/", files, np.arange(len(names)), names)


def outputs(own: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    return class_outputs(source(*own), names, len(names), "runs/x")


@pytest.mark.parametrize(
    ("own", "names", "expected"),
    [
        (RUN, RUN, (0, 1, 2)),
        (("dog", "owl"), RUN, (1, 2)),
        (("owl",), RUN, (2,)),
        (("Dog", "OWL"), RUN, (1, 2)),
        ((unicodedata.normalize("NFD", "café"),), ("bar", "café"), (1,)),
        (("2", "10"), ("1.0", "10.0", "2.0"), (2, 1)),
        # An equal name comes before one of another case.
        (("a", "A"), ("A", "a"), (1, 0)),
        (("n01443537", "n01440764"), imagenet_classes(), (1, 0)),
        (("tench", "golden retriever", "French_horn"), imagenet_classes(), (0, 207, 566)),
        (("n02085620-Chihuahua",), imagenet_classes(), (151,)),
        (("tench",), ("n01443537", "n01440764"), (1,)),
        (tuple(sorted(NUMBERS)), imagenet_classes(), tuple(map(int, sorted(NUMBERS)))),
    ],
)
def test_classes_are_matched_by_name(own, names, expected):
    assert outputs(own, names) == expected


@pytest.mark.parametrize(
    ("own", "names", "message"),
    [
        (("cat", "dog", "fox"), RUN, "has the class 'fox' that runs/x does not know: fox."),
        (("0", "1", "2"), RUN, "has 3 classes that runs/x does not know: 0, 1, 2. The data have "),
        (("ant", "bee"), RUN, "The data have ant, bee; the network knows cat, dog, owl."),
        (NUMBERS[:10], imagenet_classes(), "goldfinch.* and 980 more. Classes are matched by name"),
        (("crane", "jay"), imagenet_classes(), "has the class 'crane'"),
        (("tench", "n01440764"), imagenet_classes(), "tench, n01440764, which are one class"),
        (("CAT",), ("cat", "Cat"), "has the class 'CAT'"),
    ],
)
def test_other_classes_are_refused_with_both_lists(own, names, message):
    with pytest.raises(InputError, match=message):
        outputs(own, names)


def test_classes_without_names_are_matched_by_their_order_if_there_are_as_many():
    numbered = SyntheticSource("synthetic:3 test", "test", np.arange(9), 3, 8, 3)
    assert class_outputs(numbered, RUN, 3, "runs/x") == (0, 1, 2)
    assert class_outputs(source(*RUN), (), 3, "w.pth") == (0, 1, 2)
    for data, names, count in ((numbered, RUN[:2], 2), (numbered, (), 4), (source("a"), (), 2)):
        with pytest.raises(InputError, match=r"has \d classes and w.pth has \d; expected the same"):
            class_outputs(data, names, count, "w.pth")


def test_labels_become_the_networks(tmp_path):
    (tmp_path / "a.png").write_bytes(b"image")
    found = for_outputs(source("owl", "dog", file=tmp_path / "a.png"), RUN, 3, "runs/x")
    assert [found[at]["label"] for at in range(len(found))] == [2, 1]
    assert (found.class_names, found.num_classes) == (RUN, 3)
    assert found.describe(0).endswith("a.png (folder:p train)")
    same = source(*RUN)
    assert for_outputs(same, RUN, 3, "runs/x") is same


def test_a_run_keeps_its_classes():
    check_same_classes(source("1", "2"), ["1.0", "2.0"], "runs/x")
    with pytest.raises(InputError, match=r"runs/x has a run of .* cat, dog, owl, and .* ant"):
        check_same_classes(source("ant", "dog", "owl"), RUN, "runs/x")


def test_every_class_of_imagenet_has_its_number_and_words():
    assert imagenet_class("n15075141") == imagenet_class("toilet tissue") == 999
    assert imagenet_class("great_white_shark") == imagenet_class("White shark") == 2
    assert imagenet_class("n014407640") is imagenet_class("crane") is imagenet_class("") is None
    assert imagenet_class("polecat") == imagenet_class("fitch") == 358
    words = imagenet_classes()
    unclear = {name for at, name in enumerate(words) if imagenet_class(name) != at}
    assert unclear == {"cardigan", "crane", "maillot"}
