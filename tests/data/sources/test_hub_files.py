"""Which files of the hub are a split."""

from types import SimpleNamespace
from typing import Any

import pytest

from flax_resnet.data.sources import hub_files
from flax_resnet.data.sources.hub_files import HubName, find_files, is_commit_of, parse_name
from flax_resnet.errors import InputError

COMMIT = "0123456789" * 4
CARD = {"configs": [{"config_name": "plain", "data_files": [
    {"split": "train", "path": "plain/train-*"}, {"split": "val", "path": ["plain/val-0.parquet"]},
]}]}  # fmt: skip
TWO = {"configs": [{"config_name": "a", "data_dir": "a"}, {"config_name": "b", "data_dir": "b"}]}


def found(
    monkeypatch: pytest.MonkeyPatch,
    files: list[str],
    card: dict[str, Any] | None = None,
    rest: str = "o/n",
    converted: list[str] | None = None,
) -> Any:
    def info(repository: str, revision: str | None) -> Any:
        assert repository == "o/n"
        names = (converted or []) if revision == hub_files.CONVERTED else files
        siblings = [SimpleNamespace(rfilename=name) for name in names]
        told = None if card is None else SimpleNamespace(to_dict=lambda: card)
        return SimpleNamespace(sha=COMMIT, siblings=siblings, card_data=told)

    monkeypatch.setattr(hub_files, "_info", info)
    return find_files(parse_name(rest))


@pytest.mark.parametrize(
    ("rest", "name"),
    [
        ("o/n", HubName("o/n", None, None)),
        ("o/n/c@v2", HubName("o/n", "c", "v2")),
        ("o/n/c@v2:fine", HubName("o/n", "c", "v2", "fine")),
        ("o/n@refs/pr/1", HubName("o/n", None, "refs/pr/1")),
    ],
)
def test_a_name_has_a_repository_a_config_and_a_revision(rest: str, name: HubName) -> None:
    assert parse_name(rest) == name
    assert str(name) == f"hf:{rest}"


@pytest.mark.parametrize("rest", ["", "mnist", "o/", "o/n/c/d", "o/n@", "/n", "o/n:"])
def test_other_names_are_refused(rest: str) -> None:
    with pytest.raises(InputError, match=r"expected hf:OWNER/NAME\[/config\]\[@revision\]\[:lab"):
        parse_name(rest)


@pytest.mark.parametrize(
    ("files", "card", "config", "splits"),
    [
        (
            ["plain/train-00001.parquet", "plain/train-00000.parquet", "plain/val-0.parquet"],
            CARD,
            "plain",
            {
                "train": ("plain/train-00000.parquet", "plain/train-00001.parquet"),
                "validation": ("plain/val-0.parquet",),
            },
        ),
        (
            [
                "data/train-00000-of-00002.parquet",
                "data/train-00001-of-00002.parquet",
                "data/extra-00000-of-00001-ab12.parquet",
                "README.md",
            ],
            None,
            "default",
            {
                "train": (
                    "data/train-00000-of-00002.parquet",
                    "data/train-00001-of-00002.parquet",
                ),
                "extra": ("data/extra-00000-of-00001-ab12.parquet",),
            },
        ),
        (
            ["my_training.parquet", "dev/0.parquet", "eval.parquet"],
            {},
            "default",
            {
                "train": ("my_training.parquet",),
                "validation": ("dev/0.parquet",),
                "test": ("eval.parquet",),
            },
        ),
        (["all.parquet"], {}, "default", {"train": ("all.parquet",)}),
        (["c/train/0000.parquet"], {}, "c", {"train": ("c/train/0000.parquet",)}),
        (
            ["x/y/1.parquet"],
            {"configs": [{"config_name": "x", "data_files": {"test": "**/*.parquet"}}]},
            "x",
            {"test": ("x/y/1.parquet",)},
        ),
    ],
)
def test_the_card_or_the_names_tell_the_splits(
    monkeypatch: pytest.MonkeyPatch, files: list[str], card: Any, config: str, splits: Any
) -> None:
    answer = found(monkeypatch, files, card)
    assert answer.name == HubName("o/n", config, COMMIT)
    assert answer.splits == splits


def test_a_star_stays_in_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    card = {"configs": [{"config_name": "x", "data_files": "*.parquet"}]}
    answer = found(monkeypatch, ["train.parquet", "deep/train.parquet"], card)
    assert answer.splits == {"train": ("train.parquet",)}


def test_configs_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    files = ["a/train.parquet", "b/train.parquet", "b/test.parquet"]
    answer = found(monkeypatch, files, TWO, "o/n/b")
    assert answer.splits == {"train": ("b/train.parquet",), "test": ("b/test.parquet",)}
    with pytest.raises(InputError, match=r"has the configs a, b; expected one .* hf:o/n/a"):
        found(monkeypatch, files, TWO)
    with pytest.raises(InputError, match="has no config 'c'; expected one of a, b"):
        found(monkeypatch, files, TWO, "o/n/c")
    marked = {"configs": [TWO["configs"][0], TWO["configs"][1] | {"default": True}]}
    assert found(monkeypatch, files, marked).name.config == "b"


def test_other_data_sets_are_read_as_the_hub_converted_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted = ["default/train/0000.parquet", "default/valid/0000.parquet"]
    answer = found(monkeypatch, ["train/cat/1.jpg"], {}, converted=converted)
    assert list(answer.splits) == ["train", "validation"]
    with pytest.raises(InputError, match="no parquet files on the hub, not even converted ones"):
        found(monkeypatch, ["train/cat/1.jpg"])
    with pytest.raises(InputError, match="converted only a part"):
        found(monkeypatch, [], converted=["default/partial-train/0000.parquet"])


def test_the_cards_features_name_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    label = {"name": "label", "dtype": {"class_label": {"names": {"1": "dog", "0": "cat"}}}}
    card = {"dataset_info": {"features": [{"name": "image", "dtype": "image"}, label]}}
    assert found(monkeypatch, ["train.parquet"], card).features == {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": ["cat", "dog"]},
    }


def test_a_run_keeps_its_commit() -> None:
    pinned = f"hf:o/n/plain@{COMMIT}"
    assert is_commit_of(pinned, "hf:o/n")
    assert is_commit_of(pinned, "hf:o/n/plain")
    for other in ("hf:o/m", "hf:o/n:fine", "hf:o/n/x", "hf:o/n@v2", pinned, "digits"):
        assert not is_commit_of(pinned, other)
    assert not is_commit_of("hf:o/n@v2", "hf:o/n")
