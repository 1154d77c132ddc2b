"""Compare images per second and core of each host augmentation with plain Pillow in one run.

Three tables: single operations on an image in memory, all that a recipe adds to a crop, and the
whole way from a JPEG file to the row of a batch. The time is the thread's own CPU time, so that
other load on the machine matters less. Both sides draw the same random choices.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import sklearn.datasets
from PIL import Image

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    add_result_options,
    record_environment,
    result_path,
    shown,
    summarize,
    table,
    write_json,
)
from benchmarks.peers import pillow_side
from flax_resnet.data import DataConfig
from flax_resnet.data.augment import colour
from flax_resnet.data.augment.canvas import Canvas
from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.data.augment.operations import OPERATIONS
from flax_resnet.data.augment.stages import augment
from flax_resnet.data.images.decode import decode_image
from flax_resnet.data.images.transforms import train_transform

# An argument of each operation that is neither its weakest nor a special case.
ARGUMENTS = {
    "autocontrast": 0.0,
    "equalize": 0.0,
    "invert": 0.0,
    "posterize": 4,
    "solarize": 100,
    "solarize_add": 60,
    "colour": 1.6,
    "contrast": 1.6,
    "brightness": 1.6,
    "sharpness": 1.6,
    "rotate": 17.0,
    "shear_x": 0.2,
    "shear_y": 0.2,
    "translate_x": 9,
    "translate_y": 9,
    "translate_x_relative": 0.237,
    "translate_y_relative": 0.237,
}
COLOURS: dict[str, tuple[Callable[..., np.ndarray], float]] = {
    "hue": (colour.hue, 0.1),
    "grey": (lambda image, _: colour.grey(image), 0.0),
    "blur": (colour.blur, 1.0),
}

_RSB: dict[str, Any] = {"policy": "rand", "magnitude_std": 0.5, "increasing": True}
STAGES: dict[str, dict[str, Any]] = {
    "AutoAugment": {"policy": "auto"},
    "RandAugment, 2 operations, magnitude 9": {"policy": "rand", "probability": 1.0},
    "RandAugment of RSB A1 and A2": _RSB | {"magnitude": 7.0},
    "TrivialAugment-Wide": {"policy": "trivial"},
    "colour jitter 0.4": {"jitter": (0.4, 0.4, 0.4, 0.0)},
    "colour jitter 0.4, hue 0.1": {"jitter": (0.4, 0.4, 0.4, 0.1)},
    "random erasing, mean": {"erase": 1.0},
    "random erasing, noise": {"erase": 1.0, "erase_mode": "pixel"},
}
# Settings of the data, and of its augmentation.
RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "crop and flip": ({}, {}),
    "crop and flip, Pillow's filters": ({"interpolation": "bilinear"}, {}),
    "AutoAugment": ({}, {"policy": "auto"}),
    "RSB A1 and A2": ({"interpolation": "random"}, _RSB | {"magnitude": 7.0}),
    "RSB A3, 160 px": ({"interpolation": "random", "image_size": 160}, _RSB | {"magnitude": 6.0}),
    "torchvision V2, 176 px": (
        {"interpolation": "bilinear", "image_size": 176},
        {"policy": "trivial", "fill": "black", "erase": 0.1},
    ),
    "colour jitter 0.4, hue 0.1": ({}, {"jitter": (0.4, 0.4, 0.4, 0.1)}),
}


PHOTOS = ("china.jpg", "flower.jpg")
SIZES = (224, 32)
FILL = (124, 116, 104)
Work = Callable[[], Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON and print tables."""
    options = _parser().parse_args(arguments)
    options.repeats = options.repeats or (2 if options.quick else 7)
    options.repeat_s = options.repeat_s or (0.001 if options.quick else 0.1)
    cv2.setNumThreads(1)  # as in the trainer's workers
    environment = record_environment(options.note)
    result = {
        "benchmark": "augmentation",
        "unit": "images per second of one core's time",
        "environment": environment,
        "libraries": {"pillow": PIL.__version__, "opencv": cv2.__version__},
        "photos": list(PHOTOS),
        **compare_all(options.repeats, options.repeat_s),
    }
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    kind = f"{'quick ' if options.quick else ''}augmentation"
    path = result_path(folder, kind, f"{environment['cores']} cores")
    write_json(path, result)
    print(f"{summary(result)}\n\nwritten to {shown(path)}")
    return 0


def compare_all(repeats: int, repeat_s: float) -> dict[str, Any]:
    """Return all comparisons by table and name."""

    def compared(rows: dict[str, tuple[Work, Work]]) -> dict[str, Any]:
        return {name: compare(*works, repeats, repeat_s) for name, works in rows.items()}

    photos = [photo(name) for name in PHOTOS]
    return {
        "operations": {f"{size} px": compared(operation_rows(size)) for size in SIZES},
        "stages": {f"{size} px": compared(stage_rows(size)) for size in SIZES},
        "recipes": compared(
            {
                name: recipe_row(photos, DataConfig(**data, augment=AugmentConfig(**stages)))
                for name, (data, stages) in RECIPES.items()
            }
        ),
    }


def photo(name: str) -> bytes:
    """Return a JPEG file of 640 x 427 pixels that comes with scikit-learn."""
    return (Path(sklearn.datasets.__file__).parent / "images" / name).read_bytes()


def operation_rows(size: int) -> dict[str, tuple[Work, Work]]:
    """Return each operation by name: the library's function and Pillow's.

    Pillow's side starts and ends with its own image type, without conversion.
    """
    image, picture = _crop(size)
    canvas = Canvas(FILL)

    def ours(name: str, argument: float) -> Work:
        return lambda: OPERATIONS[name](image, argument, canvas)

    def changed(change: Callable[..., np.ndarray], argument: float) -> Work:
        return lambda: change(image, argument)

    def peer(name: str, argument: float) -> Work:
        return lambda: pillow_side.apply(picture, name, argument, FILL, canvas.resample)

    rows = {name: (ours(name, value), peer(name, value)) for name, value in ARGUMENTS.items()}
    colours = {
        name: (changed(change, value), peer(name, value))
        for name, (change, value) in COLOURS.items()
    }
    return rows | colours


def stage_rows(size: int) -> dict[str, tuple[Work, Work]]:
    """Return the augmentation stages of a crop: the library's function and Pillow's."""
    image, picture = _crop(size)

    def row(config: DataConfig) -> tuple[Work, Work]:
        rngs = np.random.default_rng(0), np.random.default_rng(0)
        return (
            lambda: augment(image, rngs[0], config),
            lambda: pillow_side.augment(picture, rngs[1], config),
        )

    return {
        name: row(DataConfig(augment=AugmentConfig(**stages))) for name, stages in STAGES.items()
    }


def recipe_row(photos: Sequence[bytes], config: DataConfig) -> tuple[Work, Work]:
    """Return functions that prepare a photograph for a batch: the library's and Pillow's."""
    rngs = np.random.default_rng(0), np.random.default_rng(0)
    turns = [0, 0]
    row = np.empty((config.image_size, config.image_size, 3), np.uint8)

    def next_photo(side: int) -> bytes:
        turns[side] += 1
        return photos[turns[side] % len(photos)]

    def ours() -> None:
        row[:] = train_transform(decode_image(next_photo(0), 3), rngs[0], config)

    def peer() -> None:
        row[:] = pillow_side.prepare(next_photo(1), rngs[1], config)

    return ours, peer


def compare(ours: Work, peer: Work, repeats: int, repeat_s: float) -> dict[str, Any]:
    """Return images per second of both, in turns of about `repeat_s` seconds, and their ratio."""
    counts = [
        max(4, round(repeat_s / min(_seconds(work, 1) for _ in range(3)))) for work in (ours, peer)
    ]
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for side, work in enumerate((ours, peer)):
            speeds[side].append(counts[side] / _seconds(work, counts[side]))
    return {
        "flax_resnet": summarize(speeds[0]),
        "pillow": summarize(speeds[1]),
        "ratio": summarize([mine / other for mine, other in zip(*speeds, strict=True)]),
    }


def summary(result: dict[str, Any]) -> str:
    """Return a result as tables of images per second and core."""
    texts = []
    sections = [(f"operations, {size}", rows) for size, rows in result["operations"].items()]
    sections += [(f"on a crop, {size}", rows) for size, rows in result["stages"].items()]
    sections += [("from a JPEG file of 640 x 427", result["recipes"])]
    for title, rows in sections:
        lines = []
        for name, row in rows.items():
            speed = row["flax_resnet"]["median"]
            cells = (f"{speed:,.0f}", f"{1000 / speed:.3f}", f"{row['pillow']['median']:,.0f}")
            lines.append((name, *cells, f"{row['ratio']['median']:.2f}"))
        header = (title, "images/s/core", "ms", "Pillow", "ratio")
        texts.append(table(header, lines))
        ratios = [row["ratio"]["median"] for row in rows.values()]
        texts.append(f"median ratio {statistics.median(ratios):.2f}, least {min(ratios):.2f}")
    return "\n\n".join(texts)


def _crop(size: int) -> tuple[np.ndarray, Image.Image]:
    image = decode_image(photo(PHOTOS[0]), 3)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return image, Image.fromarray(image)


def _seconds(work: Work, count: int) -> float:
    began = time.thread_time()
    for _ in range(count):
        work()
    return max(time.thread_time() - began, 1e-9)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers.augmentation", description=__doc__
    )
    parser.add_argument("--repeats", type=int, help="turns; default: 7, quick 2")
    parser.add_argument("--repeat-s", type=float, help="seconds a turn; default: 0.1, quick 0.001")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
