"""`python -m flax_resnet models`: the table of networks."""

import csv
import dataclasses
import json

import pytest

from flax_resnet.__main__ import main
from flax_resnet.commands.models import COUNTS
from flax_resnet.models.variants import VARIANTS
from flax_resnet.weights import find_published, list_pretrained
from tools.counts import COLUMNS, count


def test_names_are_listed_with_their_counts_and_weights(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["models", "resnet[13][84]"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 3  # and the heading
    for word in (
        "resnet18",
        "11,689,512",
        "1,814,073,344",
        "resnet34",
        "21,797,672",
        "224",
        "1000",
    ):
        assert word in printed
    assert "tv_in1k:69.8" in printed  # the published top-1
    assert "gluon_in1k" in printed


def test_a_pattern_that_matches_nothing_is_an_error_with_similar_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", "resnt50"])
    assert "Did you mean 'resnet50'" in capsys.readouterr().err


def test_weights_are_listed_with_their_accuracies_by_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "--weights", "resnet50.[at]*"]) == 0
    _, *rows, _ = capsys.readouterr().out.splitlines()
    # Name, millions of parameters, GMACs, pixels, accuracies, origin, license.
    assert rows[0].split()[:6] == ["resnet50.a1_in1k", "25.6", "4.1", "224", "80.4", "94.6"]
    assert rows[1].split()[:6] == ["resnet50.a1_in1k", "25.6", "4.1", "288", "81.2", "95.1"]
    assert rows[-1].split()[-8:] == [
        *("92.9", "83.0", "63.2", "-", "36.2", "24.1"),
        *("torchvision", "bsd-3-clause"),
    ]


def test_the_listed_accuracies_are_those_of_the_preprocessing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "--weights", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["weights"]
    assert [weights["name"] for weights in listed] == list_pretrained()
    for weights in listed:
        published = find_published(weights["name"])
        found = dict.fromkeys(published.accuracy(train_size) for train_size in (True, False))
        expected = [dataclasses.asdict(accuracy) for accuracy in found if accuracy]
        assert weights["accuracies"] == expected
        assert weights["test_size"] == published.preprocessing().image_size
        assert (weights["origin"], weights["license"]) == (published.origin, published.license)


def test_a_network_lists_all_its_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--weights", "resnet34", "--json"]) == 0
    names = {weights["name"] for weights in json.loads(capsys.readouterr().out)["weights"]}
    assert names == set(list_pretrained("resnet34.*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["resnet50.a*"], "'resnet50.a*' is a name of weights (5 match), not of a network: add"),
        (["--weights", "resnet50.a1_in1"], "Did you mean 'resnet50.a1_in1k'"),
    ],
)
def test_a_name_of_the_other_list_or_of_none_is_an_error(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["models", *words])
    assert told in capsys.readouterr().err


def counted() -> dict[str, tuple[str, int, int, int, int]]:
    """Return the rows of the stored table by name."""
    with COUNTS.open() as file:
        header, *rows = csv.reader(file, delimiter="\t")
    assert tuple(header) == COLUMNS
    return {name: (name, *map(int, numbers)) for name, *numbers in rows}


SMALL = [
    "resnet18",
    "cifar_resnet20",
    "mnist_resnet",
    "test_resnet",
    "highway10",
    "unet",
    "unet_resnet18",
]


def test_every_network_is_in_the_table_in_order() -> None:
    assert list(counted()) == sorted(VARIANTS)


@pytest.mark.parametrize("name", SMALL)
def test_the_table_has_the_counts_of_the_network(name: str) -> None:
    assert counted()[name] == count(name)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(VARIANTS))
def test_the_table_has_the_counts_of_every_network(name: str) -> None:
    assert counted()[name] == count(name)
