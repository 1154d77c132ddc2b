"""Parquet files, packed for random access."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_resnet.data.sources import packed
from flax_resnet.data.sources.packed import PackedSource, pack, read_packed
from flax_resnet.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Write = Callable[..., Path]
FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a parquet file of images with these labels, and other columns."""

    def to(name: str, labels: list[Any], features: Any = None, **columns: Any) -> Path:
        images = [{"bytes": f"{name} {row}".encode(), "path": None} for row in range(len(labels))]
        table = pa.table({"image": images, "label": labels} | columns)
        if features:
            told = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": told})
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return to


def packed_of(files: list[Path], tmp_path: Path, **options: Any) -> packed.Packed:
    options = {"source": "hf:o/n train", "features": {}} | options
    pack(files, tmp_path / "packed", **options)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"packed"}
    return read_packed(tmp_path / "packed")


def images_of(found: packed.Packed, positions: list[int]) -> PackedSource:
    at = np.array(positions)
    return PackedSource(
        "hf:o/n train", (found.folder / packed.IMAGES,), np.zeros(len(at), int), at,
        found.starts[at], found.sizes[at], found.labels[at], ("ant", "bee"), True, "",
    )  # fmt: skip


def test_every_image_of_all_files_can_be_read_by_itself(write: Write, tmp_path: Path) -> None:
    files = [write("0", [0, 1] * 50, FEATURES), write("1", [1], FEATURES)]
    found = packed_of(files, tmp_path)
    assert (len(found.ends), found.names) == (101, ("ant", "bee"))
    source = images_of(found, [100, 0, 77])
    read = [source[index] for index in range(3)]
    assert [each["image"] for each in read] == [b"1 0", b"0 0", b"0 77"]
    assert [each["label"] for each in read] == [1, 0, 1]
    assert (source.place(2), source.describe(2)) == ("row 77", "row 77 of hf:o/n train")
    again = pickle.loads(pickle.dumps(source))
    assert again[2] == read[2]


def test_classes_are_those_of_the_file_or_else_of_the_card(write: Write, tmp_path: Path) -> None:
    card = FEATURES | {"label": {"_type": "ClassLabel", "names": ["x", "y"]}}
    assert packed_of([write("0", [0], FEATURES)], tmp_path, features=card).names == ("ant", "bee")
    pack([write("1", [0])], tmp_path / "other", source="", features=card)
    assert read_packed(tmp_path / "other").names == ("x", "y")


def test_labels_may_be_names_or_plain_numbers(write: Write, tmp_path: Path) -> None:
    found = packed_of([write("0", ["bee", "ant"])], tmp_path)
    assert (found.labels.tolist(), found.names) == (["bee", "ant"], None)
    pack([write("1", [3, 4])], tmp_path / "other", source="", features={})
    assert read_packed(tmp_path / "other").labels.tolist() == [3, 4]


def test_one_of_several_columns_is_chosen(write: Write, tmp_path: Path) -> None:
    coarse = {"coarse": {"_type": "ClassLabel", "names": ["insect"]}}
    file = write("0", [1], FEATURES | coarse, coarse=[0], number=[7])
    with pytest.raises(InputError, match=r"of which label, coarse can be .* Name it after a colon"):
        packed_of([file], tmp_path)
    assert packed_of([file], tmp_path, label="coarse").names == ("insect",)
    with pytest.raises(InputError, match="the labels are 'fine'; expected one of coarse, label"):
        pack([file], tmp_path / "x", source="", features={}, label="fine")


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([0, None], {}, "row 1 of bad of hf:o/n train has no label"),
        ([0], {"image": [{"bytes": None, "path": "0.png"}]}, "row 0 of bad .* no bytes of image"),
        ([0], {"image": ["0.png"]}, "has the columns image, label; expected one of encoded images"),
        ([0.5], {}, "of which none can be labels; expected one"),
    ],
)
def test_bad_rows_and_columns_are_errors_that_leave_nothing(
    write: Write, tmp_path: Path, labels: list[Any], columns: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        packed_of([write("bad", labels, **columns)], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad"]


def test_damaged_files_are_named(write: Write, tmp_path: Path) -> None:
    file = write("0", [0, 1], FEATURES)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="0 of hf:o/n train is not a complete parquet file"):
        packed_of([file], tmp_path)
    other = FEATURES | {"label": {"_type": "ClassLabel", "names": ["x"]}}
    with pytest.raises(InputError, match=r"1 of .* has other columns or classes than the files"):
        packed_of([write("0", [0], FEATURES), write("1", [0], other)], tmp_path)
    found = packed_of([write("0", [0, 1], FEATURES)], tmp_path)
    (found.folder / packed.INFO).write_text("{")
    with pytest.raises(InputError, match=r"packed is damaged: .* Delete it, and the data set is"):
        read_packed(found.folder)


def test_pyarrow_is_asked_for_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed.importlib.util, "find_spec", lambda name: None)

    def downloads() -> Any:
        raise AssertionError
        yield

    with pytest.raises(InputError, match=r"needs pyarrow, .* pip install '\.\[parquet\]'"):
        pack(downloads(), tmp_path / "x", source="hf:o/n train", features={})
