"""Images listed in a table with any number of classes each."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data import DataConfig, open_source, train_batches
from flax_resnet.data.batches.in_memory import load_training
from flax_resnet.data.batches.pipeline import eval_batches
from flax_resnet.data.sources.csv import Row, read_table, write_table
from flax_resnet.data.sources.labels import class_counts
from flax_resnet.data.sources.source import has_several_labels
from flax_resnet.errors import InputError

TABLE = """file,labels,split
train/ant/0.png,dog; cat,train
train/ant/1.PNG,cat|cat,
train/bee/0.png,,train
train/cat/0.png,bird,train
val/bee/0.png,bird;dog,val
"""


@pytest.fixture
def table(folder: Path) -> Path:
    (folder / "labels.csv").write_text(TABLE)
    return folder / "labels.csv"


def config(table: Path, **settings: object) -> DataConfig:
    return DataConfig(
        source=f"csv:{table}", image_size=8, batch_size=4, eval_batch_size=4, workers=0, **settings
    )  # type: ignore[arg-type]


def test_labels_are_separated_by_semicolons_or_bars_and_there_may_be_none(table: Path) -> None:
    rows = read_table(table)
    assert [row.label for row in rows] == [("cat", "dog"), ("cat",), (), ("bird",), ("bird", "dog")]
    write_table(table.with_name("copy.csv"), rows)
    assert read_table(table.with_name("copy.csv")) == rows
    source = open_source(config(table), "train")
    assert (source.class_names, has_several_labels(source)) == (("bird", "cat", "dog"), True)
    assert sorted(source[at]["label"] for at in range(4)) == [(), (0,), (1,), (1, 2)]  # type: ignore[type-var]
    assert class_counts(source).tolist() == [1, 2, 1]
    assert pickle.loads(pickle.dumps(source)).class_names == source.class_names


def test_batches_have_a_truth_value_for_each_class(table: Path) -> None:
    data = config(table, crop="none", flip=False)
    source = open_source(data, "train")
    (batch,) = train_batches(source, data, seed=0, num_batches=1)
    (evaluated,) = eval_batches(source, data)
    for labels in (batch["label"], evaluated["label"]):
        assert (labels.dtype, labels.shape) == (np.bool_, (4, 3))
        assert sorted(map(sum, labels.tolist())) == [0, 1, 1, 2]
    in_memory = load_training(source, data)
    np.testing.assert_array_equal(in_memory.labels, evaluated["label"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label,labels\na.png,x,y\n", "begins with file, label, labels; expected a header"),
        ("file,labels\na.png,cat,dog\n", "row 2 has 3 cells and the header 2; expected all"),
        ("file;labels\na.png;cat;dog\n", "row 2 has 3 cells"),
        ("file,labels,split\na.png,Cat;cat,train\n", "differ only in case"),
        ("file,labels,split\na.png,cat;ox,train\nb.png,dog,val\n", "the class 'dog'"),
        ("file,labels\n,cat\n", "expected both"),
    ],
)
def test_tables_that_would_lose_labels_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        open_source(config(tmp_path / "t.csv"), "train")


def test_a_table_in_which_no_image_has_two_labels_is_told_how_to_separate_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "t.csv").write_text("file,labels\na.png,person car\nb.png,person\n")
    with pytest.warns(UserWarning, match="separated by ; or |"):
        assert read_table(tmp_path / "t.csv")[0] == Row("a.png", ("person car",))


def test_a_file_in_two_rows_of_one_label_is_told_of_the_other_column(folder: Path) -> None:
    (folder / "t.csv").write_text("file,label\ntrain/ant/0.png,cat\ntrain/ant/0.png,dog\n")
    with pytest.warns(UserWarning, match="name the column 'labels' and separate them"):
        open_source(config(folder / "t.csv"), "train")
