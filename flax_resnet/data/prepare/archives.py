"""The official ImageNet archives, as lists of images with their offsets.

Archives are not unpacked: worker processes read the images at their offsets.
"""

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import tensorflow_datasets as tfds

from flax_resnet.data.images.decode import MAX_BYTES
from flax_resnet.errors import InputError, expected_names

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")
# Called with the number of bytes of an archive that have been scanned.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Member:
    """One image file of an archive."""

    name: str
    synset: str
    offset: int
    size: int


def train_members(archive: Path, progress: Progress) -> list[Member]:
    """Return the images of ILSVRC2012_img_train.tar, which contains one archive per synset."""
    synsets = set(_labels("labels.txt"))
    members = []
    for inner in _files(archive, archive.stat().st_size, 0):
        synset = inner.name.removesuffix(".tar")
        if synset not in synsets:
            raise InputError(
                f"{archive} contains {inner.name!r}; expected an archive named by one of "
                f"ImageNet's synsets, n01440764.tar and so on: {expected_names(synset, synsets)}"
            )
        for image in _files(archive, inner.size, inner.offset):
            members.append(_member(archive, image, synset))
        progress(inner.offset + inner.size)
    return _not_empty(members, archive)


def validation_members(archive: Path, progress: Progress) -> list[Member]:
    """Return the images of ILSVRC2012_img_val.tar, with the labels that TFDS contains."""
    labels = _labels("validation_labels.txt")
    members = []
    for image in _files(archive, archive.stat().st_size, 0):
        match = _VALIDATION_NAME.fullmatch(image.name)
        if not match or not 1 <= int(match[1]) <= len(labels):
            raise InputError(
                f"{archive} contains {image.name!r}; expected ILSVRC2012_val_00000001.JPEG to "
                f"ILSVRC2012_val_{len(labels):08}.JPEG. Is it the archive of another split?"
            )
        members.append(_member(archive, image, labels[int(match[1]) - 1]))
        progress(image.offset + image.size)
    return _not_empty(members, archive)


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    offset: int
    size: int


def _member(archive: Path, image: _File, synset: str) -> Member:
    if image.size > MAX_BYTES:
        raise InputError(
            f"{archive} contains {image.name!r} of {image.size} bytes; expected images of at most "
            f"{MAX_BYTES}. It is not the official archive: fetch it again."
        )
    return Member(image.name, synset, image.offset, image.size)


def _files(archive: Path, size: int, start: int) -> Iterator[_File]:
    """Yield the files of the tar archive that starts at byte `start`, without directories."""
    end = start + size
    try:
        with archive.open("rb") as stream:
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for info in tar:
                    if info.isdir():
                        continue
                    yield _checked(archive, info, end)
            # tarfile treats a damaged header as the end of the archive.
            stream.seek(tar.offset)
            if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no member and no end mark at byte {tar.offset}")
    except InputError:
        raise
    # Invalid sizes in headers of long names or comments cause the last two.
    except (tarfile.TarError, OSError, ValueError, MemoryError) as error:
        reason = str(error) or type(error).__name__
        raise InputError(
            f"{archive} cannot be read as an uncompressed tar archive: {reason}. Compare its size "
            "and checksum with the ones at the download page, and fetch it again."
        ) from error


def _checked(archive: Path, info: tarfile.TarInfo, end: int) -> _File:
    path = PurePosixPath(info.name)
    outside = path.is_absolute() or ".." in path.parts
    # A negative size would lead back to the header and cause an infinite loop.
    if outside or not info.isfile() or not info.name.isprintable() or info.size < 0:
        raise InputError(
            f"{archive} contains {info.name!r}; expected plain files with paths inside the "
            "archive. It is not the official archive: fetch it again from https://image-net.org."
        )
    # tarfile counts offsets from the start of the file, not of the inner archive.
    if info.offset_data + info.size > end:
        raise InputError(
            f"{archive} ends within {info.name!r}: {info.offset_data + info.size - end} bytes are "
            "missing. Fetch it again."
        )
    return _File(path.name, info.offset_data, info.size)


def _labels(file: str) -> list[str]:
    return tfds.core.tfds_path(f"datasets/imagenet2012/{file}").read_text().split()


def _not_empty(members: list[Member], archive: Path) -> list[Member]:
    if not members:
        raise InputError(f"{archive} contains no images; expected the official archive.")
    return members
