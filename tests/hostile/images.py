"""Damaged or malicious folders of images and masks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from flax_resnet.data import DataConfig, open_source, train_batches
from flax_resnet.data.images.decode import MAX_BYTES
from tests.hostile import made
from tests.hostile.case import Case

BOMB = made.png(50_000, 50_000, made.chunk(b"IDAT", b""))


def read(source: str, **settings: object) -> None:
    """Open a source and make a batch of all its images, as training does."""
    common = {"source": source, "batch_size": 4, "image_size": 8, "workers": 0}
    config = DataConfig(**{**common, **settings})
    batches = train_batches(open_source(config, "train"), config, seed=0, num_batches=1)
    next(batches)
    batches.close()


def image(name: str, make: bytes | Callable[[Path], object]) -> Callable[[Path], None]:
    """Put a file among the images of the class `ant` and read them all."""

    def run(folder: Path) -> None:
        path = made.image_folder(folder / "images") / "ant" / name
        path.write_bytes(make) if isinstance(make, bytes) else make(path)
        read(f"folder:{folder / 'images'}")

    return run


def images(change: Callable[[Path], object]) -> Callable[[Path], None]:
    """Change a folder of images and read it."""

    def run(folder: Path) -> None:
        change(made.image_folder(folder / "images"))
        read(f"folder:{folder / 'images'}")

    return run


def masks(change: Callable[[Path], object], **settings: object) -> Callable[[Path], None]:
    """Change a folder of images with masks and read it."""

    def run(folder: Path) -> None:
        change(made.mask_folder(folder / "pairs"))
        read(f"masks:{folder / 'pairs'}", **settings)

    return run


def table(text: str) -> Callable[[Path], None]:
    """Read the images that a table lists."""

    def run(folder: Path) -> None:
        (folder / "labels.csv").write_text(text)
        read(f"csv:{folder / 'labels.csv'}")

    return run


IMAGES = [
    Case(
        "a truncated JPEG",
        image("2.jpg", made.encoded("JPEG", made.picture(200, 300))[:9000]),
        "2.jpg ~ cannot be decoded: the 9000 bytes are truncated or damaged. Repair or remove it, "
        "or set config.data.on_error='skip'.",
    ),
    Case(
        "a text called .jpg",
        image("2.jpg", b"hello world"),
        "its 11 bytes start with 68 65 6c 6c 6f 20 77 6f; expected a JPEG, PNG, WebP, GIF, BMP",
    ),
    Case("an empty file", image("2.jpg", b""), "its 0 bytes start with nothing; expected a JPEG"),
    Case(
        "a decompression bomb",
        image("2.png", BOMB),
        "50000 x 50000 pixels are more than the limit of 134217728",
    ),
    Case(
        "a PNG of which one part claims 2 GiB",
        image("2.png", made.lying_chunk()),
        "bytes are truncated or damaged",
    ),
    Case(
        "an animated PNG with a damaged first frame",
        image("2.png", made.broken_animation()),
        "bytes are truncated or damaged",
    ),
    Case(
        "a JPEG with a second, vast frame",
        image("2.jpg", made.two_frames()),
        "bytes are truncated or damaged",
    ),
    Case(
        "a huge file called .jpg",
        image("2.jpg", lambda path: made.sparse_file(path, MAX_BYTES + 1)),
        "its 268435457 bytes are more than the limit of 268435456",
    ),
    Case(
        "a named pipe called .jpg",
        image("2.jpg", os.mkfifo),
        "2.jpg is a named pipe; expected a file, because its name is that of an image. Rename or "
        "remove it.",
    ),
    Case("a folder called .jpg", image("2.jpg", Path.mkdir), "2.jpg is a folder; expected a file"),
    Case(
        "a link that leaves the folder",
        image("2.jpg", lambda path: path.symlink_to("/dev/zero")),
        "2.jpg is a link to /dev/zero; expected one that stays in ~. Set "
        "config.data.follow_links=True (finetune: --follow-links) if you trust it, or remove it.",
    ),
    Case(
        "a class that is a link out of the folder",
        images(lambda root: (root / "cat").symlink_to("/usr")),
        "cat is a link to /usr; expected one that stays in",
    ),
    Case(
        "a link to nothing",
        image("2.jpg", lambda path: path.symlink_to("gone.jpg")),
        "2.jpg ~ cannot be decoded: ~ No such file or directory",
    ),
    Case(
        "a link to itself",
        image("2.jpg", lambda path: path.symlink_to("2.jpg")),
        "2.jpg ~ cannot be decoded: ~ Too many levels of symbolic links",
    ),
    Case(
        "a name with a line break, a terminal's command and a byte that is not UTF-8",
        images(lambda root: made.odd_name(root / "ant").write_bytes(b"hello world")),
        r"a\nb\x1b[31m\xff.jpg ~ cannot be decoded",
    ),
    Case(
        "a class without images", images(lambda root: (root / "cat").mkdir()), "cat has no images"
    ),
    Case(
        "a split without images",
        images(lambda root: (root / "train" / "cat").mkdir(parents=True)),
        "cat has no images; expected at least one JPEG, PNG, WebP, GIF, BMP",
    ),
    Case(
        "a folder that is not there",
        lambda folder: read(f"folder:{folder}/gone"),
        "gone', which is not a folder; expected PATH/train/CLASS/*.jpg",
    ),
    Case(
        "a path of 5,000 letters",
        lambda folder: read("folder:" + "a" * 5000),
        "which cannot be opened (File name too long)",
    ),
    Case(
        "a table that lists a file outside of its folder",
        table("file,label\n/etc/hostname,ant\n"),
        "labels.csv lists /etc/hostname, which is outside of ~. Set "
        "config.data.follow_links=True if you trust it, or remove the row.",
    ),
    Case(
        "a table that is not text",
        table("\0\xff\0"),
        "labels.csv begins with ~; expected a header 'file,label'",
    ),
    Case(
        "a mask that is a decompression bomb",
        masks(lambda root: (root / "masks" / "0.png").write_bytes(BOMB)),
        "0.png cannot be decoded: Image size (2500000000 pixels) exceeds limit",
    ),
    Case(
        "a mask that is a named pipe",
        masks(lambda root: (root / "masks" / "0.png").unlink() or os.mkfifo(root / "masks/0.png")),
        "0.png is a named pipe; expected a file",
    ),
]
