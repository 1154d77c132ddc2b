"""Small archives with ImageNet's layout become data that TFDS reads."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.images.decode import decode_image
from flax_resnet.data.prepare.imagenet import pack_imagenet
from flax_resnet.data.sources.tfds import open_tfds
from flax_resnet.errors import InputError

PHOTOS = Path(__file__).parents[4] / "shared" / "data" / "photos"
SYNSETS = ("n01440764", "n01443537", "n01484850")  # Classes 0, 1 and 2.
# The first entries of the official list of validation labels.
VALIDATION = ("n01751748", "n09193705", "n02105855")


def tar(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def images(encode) -> list[bytes]:
    """Nine JPEGs, except that the second is CMYK and the third a PNG, as in the original."""
    plain = [np.full((40 + i, 60, 3), 20 * i, np.uint8) for i in range(9)]
    images = [encode(image, "JPEG") for image in plain]
    images[1] = encode(Image.fromarray(plain[1]).convert("CMYK"), "JPEG")
    images[2] = encode(plain[2], "PNG")
    return images


@pytest.fixture
def archives(tmp_path, images) -> tuple[Path, Path]:
    train, validation = tmp_path / "train.tar", tmp_path / "val.tar"
    train.write_bytes(
        tar(
            {
                f"{synset}.tar": tar(
                    {f"{synset}_{i}.JPEG": images[3 * label + i] for i in range(3)}
                )
                for label, synset in enumerate(SYNSETS)
            }
        )
    )
    validation.write_bytes(
        tar({f"ILSVRC2012_val_{i + 1:08}.JPEG": images[i + 3] for i in range(3)})
    )
    return train, validation


def read(folder: Path, split: str) -> dict[str, tuple[np.ndarray, str]]:
    """Read everything with plain TFDS."""
    builder = tfds.builder("imagenet2012", data_dir=folder)
    name = builder.info.features["label"].int2str
    return {
        example["file_name"].decode(): (example["image"], name(example["label"]))
        for example in builder.as_data_source(split)
    }


def test_tfds_reads_what_was_packed(archives, images, tmp_path):
    folder = pack_imagenet(*archives, str(tmp_path))
    assert folder == tmp_path / "imagenet2012" / "5.1.0"
    train = read(tmp_path, "train")
    assert {name: synset for name, (_, synset) in train.items()} == {
        f"{synset}_{i}.JPEG": synset for synset in SYNSETS for i in range(3)
    }
    for label, synset in enumerate(SYNSETS):
        for i in range(3):
            expected = decode_image(images[3 * label + i], 3).astype(int)
            packed, _ = train[f"{synset}_{i}.JPEG"]
            assert packed.shape == expected.shape
            assert np.abs(packed - expected).max() <= 2
    validation = read(tmp_path, "validation")
    assert [validation[name][1] for name in sorted(validation)] == list(VALIDATION)


def test_the_library_reads_it_too(archives, tmp_path):
    pack_imagenet(*archives, str(tmp_path))
    config = DataConfig(source="tfds:imagenet2012", data_dir=str(tmp_path))
    source = open_source(config, "train")
    assert (len(source), source.num_classes) == (9, 1000)
    assert {source[index]["label"] for index in range(9)} == {0, 1, 2}


def test_jpegs_keep_their_bytes(archives, images, tmp_path):
    pack_imagenet(None, archives[1], str(tmp_path))
    config = DataConfig(source="tfds:imagenet2012", data_dir=str(tmp_path))
    source = open_tfds(config, "imagenet2012", "validation")
    assert [source[index]["image"] for index in range(3)] == images[3:6]


def test_resizing_shrinks_the_short_side_and_enlarges_nothing(archives, tmp_path):
    pack_imagenet(archives[0], None, str(tmp_path), resize_to=42)
    shapes = {image.shape for image, _ in read(tmp_path, "train").values()}
    assert {min(height, width) for height, width, _ in shapes} == {40, 41, 42}
    assert all(height <= width for height, width, _ in shapes)


def test_training_images_are_shuffled_the_same_way_every_time(archives, tmp_path):
    orders = []
    for name in ("first", "second"):
        pack_imagenet(archives[0], None, str(tmp_path / name))
        orders.append(list(read(tmp_path / name, "train")))
    assert orders[0] == orders[1] != sorted(orders[0])


@pytest.fixture
def eight_shards(monkeypatch):
    config = tfds.core.utils.shard_utils.ShardConfig
    monkeypatch.setattr(config, "calculate_number_shards", classmethod(lambda *_, **__: 8))


@pytest.mark.slow
def test_processes_write_what_one_process_writes(archives, tmp_path, eight_shards):
    for workers in (1, 2):
        folder = pack_imagenet(archives[0], None, str(tmp_path / str(workers)), workers=workers)
        assert len(list(folder.glob("imagenet2012-train.array_record-*-of-00008"))) == 8
    one, two = (read(tmp_path / name, "train") for name in ("1", "2"))
    assert list(one) == list(two)
    for name in one:
        np.testing.assert_array_equal(one[name][0], two[name][0])


def test_a_rerun_writes_only_what_is_missing(archives, tmp_path, eight_shards):
    folder = pack_imagenet(archives[0], None, str(tmp_path))
    before = read(tmp_path, "train")
    shards = sorted(folder.glob("*array_record*"))
    times = {path: path.stat().st_mtime_ns for path in shards}
    shards[3].rename(folder / f"incomplete.{shards[3].name}")  # As after a killed run.
    reports = []
    pack_imagenet(archives[0], None, str(tmp_path), report=lambda *report: reports.append(report))
    assert read(tmp_path, "train").keys() == before.keys()
    changed = [path for path in shards if path.stat().st_mtime_ns != times[path]]
    assert changed == [shards[3]]
    assert reports[-1] == ("packing train", 9, 9)
    assert not list(folder.glob("incomplete*"))


def test_different_options_do_not_mix_with_an_earlier_pack(archives, tmp_path):
    pack_imagenet(archives[0], None, str(tmp_path))
    with pytest.raises(InputError, match="was begun with other archives or options"):
        pack_imagenet(archives[0], None, str(tmp_path), resize_to=32)


def test_the_validation_split_can_be_added_later(archives, tmp_path):
    pack_imagenet(archives[0], None, str(tmp_path))
    pack_imagenet(None, archives[1], str(tmp_path))
    assert len(read(tmp_path, "train")) == 9
    assert len(read(tmp_path, "validation")) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"../n01440764.tar": b""}, "'../n01440764.tar'; expected plain files with paths inside"),
        ({"/n01440764.tar": b""}, "expected plain files with paths inside"),
        ({"n01440765.tar": b""}, "'n01440765.tar'; .* Did you mean 'n01440764'"),
        ({"n01440764.tar": b"no archive"}, "cannot be read as an uncompressed tar archive"),
        ({"n01440764.tar": tar({"../../evil.JPEG": b""})}, "'../../evil.JPEG'"),
        ({"n01440764.tar": tar({"a.JPEG": b"not an image"})}, "a.JPEG in .* cannot be decoded"),
        ({}, "contains no images"),
    ],
)
def test_an_archive_that_is_not_the_official_one_is_an_error(tmp_path, files, message):
    path = tmp_path / "train.tar"
    path.write_bytes(tar(files))
    with pytest.raises(InputError, match=message):
        pack_imagenet(path, None, str(tmp_path))


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00050001.JPEG", "ILSVRC2012_test_00000001.JPEG"])
def test_an_unknown_validation_image_is_an_error(tmp_path, name):
    path = tmp_path / "val.tar"
    path.write_bytes(tar({name: b""}))
    with pytest.raises(InputError, match=r"expected ILSVRC2012_val_00000001.JPEG to"):
        pack_imagenet(None, path, str(tmp_path))


def test_a_damaged_archive_is_an_error(archives, tmp_path):
    data = bytearray(archives[0].read_bytes())
    at = data.index(b"n01443537_1.JPEG")
    data[at : at + 200] = bytes(range(200))
    archives[0].write_bytes(data)
    with pytest.raises(InputError, match="no member and no end mark at byte"):
        pack_imagenet(archives[0], None, str(tmp_path))


@pytest.mark.parametrize("kept", [0.3, 0.6])
def test_a_truncated_archive_is_an_error(archives, tmp_path, kept):
    data = archives[0].read_bytes()
    archives[0].write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InputError, match=r"bytes are missing|cannot be read"):
        pack_imagenet(archives[0], None, str(tmp_path))


def test_no_archive_or_one_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(InputError, match="expected --train, --val or both"):
        pack_imagenet(None, None, str(tmp_path))
    with pytest.raises(InputError, match=r"gone.tar is not a file"):
        pack_imagenet(tmp_path / "gone.tar", None, str(tmp_path))


@pytest.mark.skipif(not PHOTOS.exists(), reason="the photographs are not here")
def test_real_photographs(tmp_path):
    photos = sorted(path for path in PHOTOS.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = {f"{SYNSETS[0]}_{i}.JPEG": path.read_bytes() for i, path in enumerate(photos[:20])}
    archive = tmp_path / "train.tar"
    archive.write_bytes(tar({f"{SYNSETS[0]}.tar": tar(files)}))
    pack_imagenet(archive, None, str(tmp_path))
    packed = read(tmp_path, "train")
    for name, data in files.items():
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(np.broadcast_to(packed[name][0], expected.shape), expected)
