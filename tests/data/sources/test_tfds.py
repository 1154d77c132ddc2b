"""Data sets of TFDS, and errors if one is missing."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.batches.loading import EvalLoader, RecordError, load_example
from flax_resnet.data.images.decode import decode_image
from flax_resnet.data.sources import tfds as tfds_source
from flax_resnet.data.sources.tfds import open_builder
from flax_resnet.errors import InputError

SHARED = Path(__file__).parents[4] / "shared" / "data" / "tfds"


class _Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Four images with two labels each, which tests can replace."""

    VERSION = tfds.core.Version("1.0.0")
    features = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(None, None, 3)),
        "coarse": tfds.features.ClassLabel(names=["a", "b"]),
        "label": tfds.features.ClassLabel(names=["x", "y", "z"]),
    }
    supervised = ("image", "label")

    def _info(self):
        features = tfds.features.FeaturesDict(self.features)
        return tfds.core.DatasetInfo(
            builder=self, features=features, supervised_keys=self.supervised
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        png = encoded_png()
        for index in range(4):
            yield index, {"image": png, "coarse": index % 2, "label": index % 3}


class _Real(_Tiny, skip_registration=True):
    """Three images with an original label each, and with two, one and no labels of their own."""

    features = {  # noqa: RUF012
        "image": tfds.features.Image(shape=(None, None, 3)),
        "original_label": tfds.features.ClassLabel(names=["x", "y", "z"]),
        "real_label": tfds.features.Sequence(tfds.features.ClassLabel(names=["x", "y", "z"])),
    }
    supervised = ("image", "real_label")

    def _generate_examples(self):
        for index, labels in enumerate(([2, 0], [1], [])):
            yield index, {"image": encoded_png(), "original_label": 1, "real_label": labels}


def encoded_png() -> bytes:
    return cv2.imencode(".png", np.full((2, 3, 3), 7, np.uint8))[1].tobytes()


def test_the_supervised_keys_select_the_label(tmp_path):
    source = open_builder(_Tiny(data_dir=tmp_path), "tfds:tiny", "train")
    assert source.class_names == ("x", "y", "z")
    assert sorted(source[i]["label"] for i in range(4)) == [0, 0, 1, 2]
    assert (decode_image(source[0]["image"], 3) == 7).all()


def test_the_supervised_keys_select_a_list_of_labels(tmp_path):
    source = open_builder(_Real(data_dir=tmp_path), "tfds:real", "train")
    assert source.class_names == ("x", "y", "z")
    assert sorted(source[i]["label"] for i in range(3)) == [(), (1,), (2, 0)]
    batch = EvalLoader(source, DataConfig(image_size=2, eval_batch_size=4))(0)
    rows = sorted(batch["label"].tolist())
    assert rows == [[False] * 3, [False] * 3, [False, True, False], [True, False, True]]
    assert batch["mask"].sum() == 3


def test_without_supervised_keys_the_only_plain_label_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(_Real, "supervised", None)
    source = open_builder(_Real(data_dir=tmp_path), "tfds:real", "train")
    assert [source[i]["label"] for i in range(3)] == [1, 1, 1]


def test_a_data_set_without_one_image_and_one_label_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(_Tiny, "supervised", None)
    with pytest.raises(InputError, match="features image, coarse, label; expected one 8-bit Image"):
        open_builder(_Tiny(data_dir=tmp_path), "tfds:tiny", "train")


def test_a_tfrecord_copy_is_an_error_with_the_command_that_converts_it(tmp_path):
    builder = _Tiny(data_dir=tmp_path)
    open_builder(builder, "tfds:tiny", "train")
    info = Path(builder.data_dir, "dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        InputError, match=r"as tfrecord; expected array_record. .*tfds convert_forma"
    ):
        open_builder(_Tiny(data_dir=tmp_path), "tfds:tiny", "train")


@pytest.mark.parametrize("in_memory", [True, False])
def test_damaged_files_are_an_error(tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr(tfds_source, "_IN_MEMORY_BYTES", 2**28 * in_memory)
    builder = _Tiny(data_dir=tmp_path)
    open_builder(builder, "tfds:tiny", "train")
    shard = next(Path(builder.data_dir).glob("*array_record*"))
    shard.write_bytes(shard.read_bytes()[:60])
    with pytest.raises(
        (InputError, RecordError), match=r"tfds:tiny train (are damaged|cannot be decoded)"
    ):
        load_example(open_builder(_Tiny(data_dir=tmp_path), "tfds:tiny", "train"), 0, 3)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ImportError("No module named 'tensorflow'"), r"pip install '\.\[prepare\]' in a checkout"),
        (OSError("no route to host"), "could not be prepared in .*no route to host"),
    ],
)
def test_a_failed_preparation_says_what_to_do(tmp_path, monkeypatch, failure, message):
    def fail(self, **options):
        raise failure

    monkeypatch.setattr(_Tiny, "download_and_prepare", fail)
    with pytest.raises(InputError, match=message):
        open_builder(_Tiny(data_dir=tmp_path), "tfds:tiny", "train")


def test_a_download_is_announced(tmp_path, monkeypatch, capsys):
    builder = tfds.builder("mnist", data_dir=str(tmp_path))
    monkeypatch.setattr(type(builder), "download_and_prepare", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_builder(builder, "tfds:mnist", "train")
    told = capsys.readouterr().err
    assert "download of up to 11.06 MiB" in told
    assert str(tmp_path) in told


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mnits", "no data set 'mnits': .* Did you mean 'mnist'"),
        ("imagenette/161px", "cannot open 'imagenette/161px'"),
        ("mnist:0.1.0", "cannot open 'mnist:0.1.0'"),
        ("imagenet2012", "flax_resnet prepare imagenet --train"),
    ],
)
def test_an_unknown_data_set_is_an_error(tmp_path, name, message):
    with pytest.raises(InputError, match=message):
        open_source(DataConfig(source=f"tfds:{name}", data_dir=str(tmp_path)), "train")


@pytest.mark.skipif(not SHARED.exists(), reason="the real data sets are not here")
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_data_sets_equal_tfds_s_own_decoding(name):
    config = DataConfig(
        source=f"tfds:{name}", data_dir=str(SHARED), channels=1, mean=(0,), std=(1,)
    )
    source = open_source(config, "test[:100]")
    theirs = tfds.builder(name, data_dir=str(SHARED)).as_data_source("test[:100]")
    assert len(source) == 100
    for index in range(0, 100, 10):
        np.testing.assert_array_equal(source[index]["image"], theirs[index]["image"])
        assert source[index]["label"] == theirs[index]["label"]
