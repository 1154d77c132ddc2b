"""Images and labels of parquet files, packed so that every image can be read by itself.

A parquet file stores a hundred images or more as one compressed block. Packed, a split is a file of
images, one after another, with a table of where each ends and of its label.
"""

import functools
import importlib.util
import json
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flax_resnet.data.sources.source import Example
from flax_resnet.errors import InputError, expected_names, install_extra

IMAGES, INDEX, INFO = "images", "index.npz", "info.json"
# Rows that are read at a time.
_ROWS = 64


@dataclass(frozen=True)
class Columns:
    """The columns of a table that have the image and the label, and the names of the classes."""

    image: str
    label: str
    names: tuple[str, ...] | None
    """None: the label is a number or a name, and nothing lists the classes."""


@dataclass(frozen=True)
class Packed:
    """A packed split."""

    folder: Path
    ends: np.ndarray
    """int64 (n,): where each image ends in the file."""
    labels: np.ndarray
    """int64 or strings (n,)"""
    names: tuple[str, ...] | None
    """See `Columns`."""

    @property
    def starts(self) -> np.ndarray:
        """Return where each image starts."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    @property
    def sizes(self) -> np.ndarray:
        """Return the bytes of each image."""
        return self.ends - self.starts


@dataclass(frozen=True)
class PackedSource:
    """Examples of packed splits."""

    name: str
    images: tuple[Path, ...]
    """The file of each part."""
    parts: np.ndarray
    """Which of them has the image of each example, ..."""
    positions: np.ndarray
    """... as which of its images, ..."""
    starts: np.ndarray
    """... from which byte on, ..."""
    sizes: np.ndarray
    """... and how many of them."""
    labels: np.ndarray
    class_names: tuple[str, ...]
    named: bool
    pinned: str
    """`config.data.source` with the commit that was read."""

    @property
    def num_classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.positions)

    def __getitem__(self, index: int) -> Example:
        """Return the encoded image and the label of an example."""
        start, size = int(self.starts[index]), int(self.sizes[index])
        part = int(self.parts[index])
        image = self._mapped[part][start : start + size].tobytes()
        if len(image) < size:
            raise OSError(f"{self.images[part]} ends early; delete its folder to pack it again")
        return {"image": image, "label": int(self.labels[index])}

    def describe(self, index: int) -> str:
        """Return the row of an example and its data set."""
        return f"{self.place(index)} of {self.name}"

    def place(self, index: int) -> str:
        """Return the row of an example in the files of its split."""
        return f"row {self.positions[index]}"

    @functools.cached_property
    def _mapped(self) -> list[np.ndarray]:
        return [np.memmap(path, mode="r") for path in self.images]

    def __getstate__(self) -> dict[str, Any]:
        """Omit the mapped files: each process maps them itself."""
        return {key: value for key, value in self.__dict__.items() if key != "_mapped"}


def read_packed(folder: Path) -> Packed:
    """Return a split that `pack` wrote."""
    try:
        info = json.loads((folder / INFO).read_text())
        names = None if info["names"] is None else tuple(info["names"])
        with np.load(folder / INDEX) as arrays:
            return Packed(folder, arrays["ends"], arrays["labels"], names)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{folder} is damaged: {error}. Delete it, and the data set is packed again"
        ) from error


def pack(
    files: Iterable[Path],
    folder: Path,
    *,
    source: str,
    features: Mapping[str, Any],
    label: str | None = None,
) -> None:
    """Write the images and labels of parquet files into a folder, which exists only when complete.

    Args:
      source: the data set's name, for errors.
      features: of the columns, for files that do not describe theirs.
      label: the column of the labels; None: the only one.

    Raises:
      InputError: the files are damaged, or lack images or labels.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            f"reading {source} needs pyarrow, which is not installed: {install_extra('parquet')}"
        )
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        target = Path(temporary) / folder.name
        target.mkdir()
        with (target / IMAGES).open("wb") as images:
            ends, labels, names = _copy(files, images, source, features, label)
        # Without any row there is no label that could tell the type.
        kinds = np.array(labels) if labels else np.zeros(0, np.int64)
        np.savez(target / INDEX, ends=np.array(ends, np.int64), labels=kinds)
        (target / INFO).write_text(json.dumps({"names": names}))
        target.rename(folder)


def _copy(
    files: Iterable[Path],
    images: BinaryIO,
    source: str,
    features: Mapping[str, Any],
    label: str | None,
) -> tuple[list[int], list[Any], tuple[str, ...] | None]:
    """Write the images of all files; return where each ends, the labels and names of classes."""
    ends: list[int] = []
    labels: list[Any] = []
    columns: Columns | None = None
    for file in files:
        table = _open(file, source)
        found = _columns(table.schema_arrow, features, source, label)
        if columns is not None and found != columns:
            raise InputError(
                f"{file.name} of {source} has other columns or classes than the files before it; "
                "expected the same in all"
            )
        columns = found
        for image, value in _rows(table, columns, file, source):
            images.write(image)
            ends.append(images.tell())
            labels.append(value)
    return ends, labels, None if columns is None else columns.names


def _open(file: Path, source: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} of {source} is not a complete parquet file: {error}") from error


def _rows(table: Any, columns: Columns, file: Path, source: str) -> Iterator[tuple[bytes, Any]]:
    import pyarrow as pa

    number = 0
    try:
        for batch in table.iter_batches(_ROWS, columns=[columns.image, columns.label]):
            both = (batch.column(each).to_pylist() for each in (columns.image, columns.label))
            for image, label in zip(*both, strict=True):
                image = image.get("bytes") if isinstance(image, dict) else image
                if image is None or label is None:
                    missing = columns.label if image is not None else f"bytes of {columns.image}"
                    raise InputError(
                        f"row {number} of {file.name} of {source} has no {missing}; expected an "
                        "image and a label in every row"
                    )
                yield image, label
                number += 1
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file} of {source} is damaged: {error}") from error


def _columns(schema: Any, features: Mapping[str, Any], source: str, label: str | None) -> Columns:
    import pyarrow as pa

    described = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features") or features
    images = [
        entry.name
        for entry in schema
        if features.get(entry.name, {}).get("_type") == "Image"
        or (entry.name not in features and _holds_images(entry.type))
    ]
    classes = [
        entry.name for entry in schema if features.get(entry.name, {}).get("_type") == "ClassLabel"
    ]
    plain = [
        entry.name
        for entry in schema
        if pa.types.is_integer(entry.type)
        or pa.types.is_string(entry.type)
        or pa.types.is_large_string(entry.type)
    ]
    image = images[0] if len(images) == 1 else next((n for n in images if n in _IMAGE), None)
    if image is None:
        raise InputError(
            f"{source} has the columns {', '.join(schema.names)}; expected one of encoded images"
        )
    if label is not None and label not in plain:
        raise InputError(f"{source}: the labels are {label!r}; {expected_names(label, plain)}")
    usual = [name for name in plain if name in _LABEL]
    chosen = [label] if label else classes or (usual if len(usual) == 1 else plain)
    if len(chosen) != 1:
        raise InputError(
            f"{source} has the columns {', '.join(schema.names)}, of which "
            f"{', '.join(chosen) or 'none'} can be labels; expected one. "
            "Name it after a colon: hf:OWNER/NAME:COLUMN."
        )
    names = features.get(chosen[0], {}).get("names")
    return Columns(image, chosen[0], tuple(map(str, names)) if names else None)


# Usual names of columns, where their types leave a choice.
_IMAGE, _LABEL = ("image", "img"), ("label", "labels")


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(at).name == "bytes" for at in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
