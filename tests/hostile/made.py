"""Bad input: images and weights with false headers, and archives with dangerous paths."""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

VALIDATION_IMAGE = "ILSVRC2012_val_00000001.JPEG"


def picture(height: int = 12, width: int = 10) -> Image.Image:
    """Return an image of noise."""
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8))


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(height: int, width: int, *chunks: bytes) -> bytes:
    """Return a PNG with these bytes after its header."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks)


def lying_chunk() -> bytes:
    """Return a PNG with a chunk that claims to have 2 GiB."""
    return png(12, 10, struct.pack(">I", 2**31 - 1) + b"tEXt", encoded("PNG"))


def broken_animation() -> bytes:
    """Return an animated PNG whose first frame has a row of an unknown filter."""
    rows = zlib.compress(b"\x63" + bytes(10) + bytes(11 * 11))
    frame = struct.pack(">IIIIIHHBB", 0, 10, 12, 0, 0, 1, 1, 0, 0)
    animation = chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", frame)
    return png(12, 10, animation, chunk(b"IDAT", rows), chunk(b"IEND", b""))


def two_frames() -> bytes:
    """Return a JPEG in which simple readers see a small frame and libjpeg a huge one."""
    data = encoded("JPEG")
    at = data.index(b"\xff\xc0")
    frame = data[at : at + 19]
    vast = frame[:5] + struct.pack(">HH", 32_000, 32_000) + frame[9:]
    # 00 is not a marker code: libjpeg looks for the next marker, others trust the length.
    return data[:2] + b"\xff\x00" + struct.pack(">H", 2 + len(vast)) + vast + data[2:]


def sparse_file(path: Path, size: int) -> None:
    """Make a file of this size that takes no space."""
    with path.open("wb") as file:
        file.truncate(size)


def archive(path: Path, name: str = VALIDATION_IMAGE, data: bytes = b"", **fields: object) -> Path:
    """Write a tar archive with one member whose header has these fields."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for field, value in fields.items():
        setattr(member, field, value)
    padding = bytes(-len(data) % tarfile.BLOCKSIZE)
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + data + padding + bytes(1024))
    return path


def safetensors(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a safetensors file with any header."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def array(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    """Return the header entry of an array in a safetensors file."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def weights_folder(path: Path, config: str) -> Path:
    """Make a folder of weights with this config.json."""
    path.mkdir()
    (path / "config.json").write_text(config)
    safetensors(path / "model.safetensors", {"a": array([1], 0, 4)}, bytes(4))
    return path


def image_folder(path: Path) -> Path:
    """Make a folder of two classes, `ant` and `bee`, with two images each and no split."""
    for name in ("ant", "bee"):
        (path / name).mkdir(parents=True)
        for number in range(2):
            (path / name / f"{number}.png").write_bytes(encoded("PNG"))
    return path


def mask_folder(path: Path) -> Path:
    """Make a folder of two images with masks of the values 0 and 255."""
    for folder in ("images", "masks"):
        (path / folder).mkdir(parents=True)
    for number in range(2):
        (path / "images" / f"{number}.png").write_bytes(encoded("PNG"))
        mask = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(12, 10) % 2 * 255)
        (path / "masks" / f"{number}.png").write_bytes(encoded("PNG", mask))
    return path


def odd_name(folder: Path) -> Path:
    """Return a path with a line break, a terminal command and a byte that is not UTF-8."""
    return folder / os.fsdecode(b"a\nb\x1b[31m\xff.jpg")
