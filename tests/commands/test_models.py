"""`python -m flax_resnet models`: the table of networks."""

import csv

import pytest

from flax_resnet.__main__ import main
from flax_resnet.commands.models import COUNTS
from flax_resnet.models.variants import VARIANTS
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
