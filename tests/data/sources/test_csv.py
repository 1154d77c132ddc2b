"""Images listed in a table."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.csv import Row, read_table, write_table
from flax_resnet.data.sources.open import decoded
from flax_resnet.errors import InputError


def opened(path, split="train", **settings):
    return open_source(DataConfig(source=f"csv:{path}", **settings), split)


def values(source) -> list[tuple[int, int]]:
    examples = [source[index] for index in range(len(source))]
    return sorted((int(decoded(e, 1)[0, 0, 0]), e["label"]) for e in examples)


@pytest.fixture
def table(folder) -> Path:
    """List the images in `folder`: 9 for training, 6 for evaluation, in three classes."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.*"))
    rows = [Row(str(file), file.parts[1], file.parts[0]) for file in files]
    write_table(folder / "labels.csv", rows)
    return folder / "labels.csv"


def test_a_table_gives_the_same_images_as_the_folder(folder, table):
    for split in ("train", "val", "train[:5]", "train+validation"):
        listed = opened(table, split)
        whole = open_source(DataConfig(source=f"folder:{folder}"), split)
        assert values(listed) == values(whole)
        assert listed.class_names == whole.class_names == ("ant", "bee", "cat")
        assert values(pickle.loads(pickle.dumps(listed))) == values(listed)


def test_an_example_is_described_by_its_file(folder, table):
    source = opened(table)
    described = {source.describe(index).partition(" (")[0] for index in range(len(source))}
    assert str(folder / "train" / "bee" / "1.PNG") in described


def test_without_splits_all_images_are_for_training(folder):
    (folder / "labels.csv").write_text("label,file\nx,train/ant/0.png\n y ,train/bee/0.png\n\n")
    source = opened(folder / "labels.csv")
    assert (values(source), source.class_names) == ([(0, 0), (40, 1)], ("x", "y"))
    with pytest.raises(InputError, match="no split 'validation'; expected one of train"):
        opened(folder / "labels.csv", "validation")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_from_spreadsheets_are_read(tmp_path, delimiter):
    lines = ["File,Label,Split", '"a b.png",cat,Train', "c.png,dog,valid", "d.png,dog,"]
    text = "\r\n".join(lines).replace(",", delimiter)
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_table(tmp_path / "t.csv") == [
        Row("a b.png", "cat", "train"),
        Row("c.png", "dog", "validation"),
        Row("d.png", "dog", "train"),
    ]


TEXT = 'file,label\r\n"é b.png",cat\r\nc.png,dog\r\n,\r\n'
ROWS = [Row("é b.png", "cat"), Row("c.png", "dog")]


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.replace(",", "\t").encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        ("sep=;\r\n" + TEXT.replace(",", ";")).encode(),
        ('"sep=\t"\n' + TEXT.replace(",", "\t")).encode("utf-16"),
        ("SEP=|\n" + TEXT.replace(",", "|")).encode(),
    ],
)
def test_every_form_in_which_excel_saves_is_read(tmp_path, data):
    (tmp_path / "t.csv").write_bytes(data)
    assert read_table(tmp_path / "t.csv") == ROWS


def test_a_table_in_the_encoding_of_windows_is_read(folder):
    for name in ("é.png".encode(), b"\xe8.png"):  # the second is not UTF-8 on the disk either
        (folder / os.fsdecode(name)).write_bytes((folder / "train/ant/0.png").read_bytes())
    (folder / "t.csv").write_bytes("file;label\né.png;Käse\nè.png;Brot\n".encode("cp1252"))
    source = opened(folder / "t.csv")
    assert source.class_names == ("Brot", "Käse")
    assert values(source) == [(0, 0), (0, 1)]


def test_half_a_character_is_an_error(tmp_path):
    (tmp_path / "t.csv").write_bytes("file,label".encode("utf-16") + b"a")
    with pytest.raises(InputError, match=r"cannot be read: .*truncated data"):
        read_table(tmp_path / "t.csv")


def test_paths_of_windows_are_those_of_this_system(folder):
    (folder / "odd\\name.png").write_bytes((folder / "train/ant/0.png").read_bytes())
    rows = "file,label\ntrain\\ant\\1.PNG,x\nodd\\name.png,x\ntrain/bee/0.png,y\n"
    (folder / "t.csv").write_text(rows)
    assert values(opened(folder / "t.csv")) == [(0, 0), (1, 0), (40, 1)]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ("1 1.0 2 10.00", ("1", "10", "2")),
        ("1 1.0 cat cat", ("1", "cat")),
        ("0.5 1.0 1.5 1.0", ("0.5", "1.0", "1.5")),
    ],
)
def test_whole_numbers_have_no_fraction(tmp_path, labels, classes):
    rows = [f"{at}.png,{label}" for at, label in enumerate(labels.split())]
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    assert opened(tmp_path / "t.csv").class_names == classes


def test_names_that_look_alike_are_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("file,label\na.png,Cat\nb.png,cat\n")
    with pytest.raises(InputError, match=r"t\.csv has the classes 'Cat' and 'cat'"):
        opened(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.png,cat,train\n./a.png,dog,train", r"have two labels.*: a\.png \(cat and dog\)"),
        ("a.png,cat,train\na.png,cat,val", r"are in two splits.*: a\.png \(train and validation\)"),
    ],
)
def test_a_file_that_is_two_things_is_named_in_a_warning(tmp_path, rows, message):
    (tmp_path / "t.csv").write_text(f"file,label,split\n{rows}\nb.png,dog,train\n")
    with pytest.warns(UserWarning, match=message):
        opened(tmp_path / "t.csv")


def test_a_repeated_row_is_no_fault(tmp_path):
    (tmp_path / "t.csv").write_text("file,label\na.png,cat\na.png,cat\nb.png,dog\n")
    assert len(opened(tmp_path / "t.csv")) == 3


def test_any_name_survives_being_written(tmp_path):
    rows = [Row('a,"b"\n\udcff.png', "ä ö", "train"), Row("../x.png", "1", "test")]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "begins with nothing; expected a header 'file,label'"),
        ("path,class\na,b\n", "begins with path, class; expected a header"),
        ("file,label\n", "lists no images"),
        ("file,label\na.png\n", r"row 2 has the file 'a.png' and the label ''; expected both"),
        ("file,label,split\na.png,x,trian\n", "row 2: the split is 'trian'; .*'train'"),
        ("file,label,split\na.png,x,val\n", "has no rows of the split 'train'"),
        ("file,label,split\na,x,train\nb,y,val\n", "has the class 'y'; expected every class"),
        ('file,label\n"a', "cannot be read: unexpected end of data"),
    ],
)
def test_a_bad_table_is_an_error(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "t.csv")


def test_a_missing_table_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv cannot be read: No such file"):
        opened(tmp_path / "gone.csv")


def test_files_outside_of_the_folder_have_to_be_trusted(folder, tmp_path):
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "t.csv").write_text("file,label\n../images/train/bee/0.png,bee\n")
    with pytest.raises(InputError, match=r"is outside of .*Set config.data.follow_links=True"):
        opened(tables / "t.csv")
    assert values(opened(tables / "t.csv", follow_links=True)) == [(40, 0)]
    # `..` starts from the folder of the file, not from a link to that folder.
    (folder / "train" / "link").symlink_to(tables)
    linked = folder / "train" / "link" / "t.csv"
    assert values(opened(linked, follow_links=True)) == [(40, 0)]
