"""Segment images with a run: `python -m flax_resnet segment runs/unet_isbi`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from flax_resnet.commands.evaluate import class_lines
from flax_resnet.commands.reporting import Done
from flax_resnet.data import MaskSource, open_source
from flax_resnet.data.images.decode import DecodeError, decode_image, read_file
from flax_resnet.errors import InputError
from flax_resnet.inference.overlays import PanelRow, draw_overlay, draw_panel
from flax_resnet.inference.tiles import make_apply, predict
from flax_resnet.steps.tasks.confusion import confusion_metrics, count_confusion
from flax_resnet.training.runs import default_split, replace_data, restore

EXAMPLE = "segment runs/unet_isbi cells.png --out masks"
# Rows of the panel: as many as fit on a screen.
_SHOWN = 4


class Subject(NamedTuple):
    """An image to segment."""

    name: str
    image: np.ndarray
    """uint8 (height, width, channels)"""
    truth: np.ndarray | None
    """uint8 (height, width) of classes; None where the mask is not known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", help="folder of a run, such as runs/unet_isbi")
    parser.add_argument("image", nargs="*", type=Path, help="image files (default: a split)")
    parser.add_argument("--step", default="best", help="best, latest or a number (default: best)")
    parser.add_argument("--data", metavar="SOURCE", help="data to use instead of the run's own")
    parser.add_argument("--split", help="default: the run's test split, or its evaluation split")
    parser.add_argument("--out", type=Path, help="folder to write to (default: RUN/segmented)")
    parser.add_argument(
        "--tile",
        type=int,
        default=1024,
        help="side of the squares that larger images are cut into (default: 1024)",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        default=96,
        help="pixels of context on each side of a square (default: 96)",
    )


def run(args: argparse.Namespace) -> Done:
    """Write NAME.mask.png and NAME.overlay.png of each image, and panel.png of the first few."""
    restored = restore(args.run, args.step)
    if restored.config.task != "segmentation":
        raise InputError(
            f"{args.run} is a run of the task {restored.config.task}; expected segmentation"
        )
    subjects = _of_files(args, restored) if args.image else _of_split(args, restored)
    out = args.out or Path(args.run) / "segmented"
    out.mkdir(parents=True, exist_ok=True)
    apply, names = make_apply(restored), restored.class_names
    values = np.asarray(restored.config.data.masks.values, np.uint8)
    panel: list[PanelRow] = []
    confusions: dict[str, np.ndarray] = {}
    for subject in subjects:
        # A model may have more outputs than there are values to write.
        chances = predict(apply, subject.image, args.tile, args.overlap)[..., : len(values)]
        found = chances.argmax(-1).astype(np.uint8)
        Image.fromarray(values[found]).save(out / f"{subject.name}.mask.png")
        overlay = draw_overlay(subject.image, subject.truth, found)
        Image.fromarray(overlay).save(out / f"{subject.name}.overlay.png")
        if subject.truth is not None:
            classes = len(values)
            counted = subject.truth < classes
            confusion = count_confusion(subject.truth, found, counted, classes)
            confusions[subject.name] = np.asarray(confusion)
        if len(panel) < _SHOWN:
            panel.append((subject.name, subject.image, subject.truth, found))
    draw_panel(out / "panel.png", panel, names)
    figures = _print(confusions, names)
    print(f"masks, overlays and panel.png are in {out}")
    return Done({"out": str(out), **figures})


def _of_files(args: argparse.Namespace, restored: Any) -> Iterator[Subject]:
    _check_names([path.stem for path in args.image])
    for path in args.image:
        try:
            image = decode_image(read_file(path), restored.config.data.channels)
        except (OSError, DecodeError) as error:
            raise InputError(f"{path} cannot be decoded: {error}") from error
        yield Subject(path.stem, image, None)


def _of_split(args: argparse.Namespace, restored: Any) -> Iterator[Subject]:
    data = replace_data(restored.config.data, source=args.data)
    source = open_source(data, args.split or default_split(data))
    if not isinstance(source, MaskSource):
        raise InputError(f"{data.source} has no masks; expected masks:PATH, or pass image files")
    stems = [pair.image.stem for pair in source.pairs]
    _check_names(stems)
    for index, stem in enumerate(stems):
        example = source[index]
        yield Subject(stem, np.asarray(example["image"]), np.asarray(example["label"]))


def _check_names(stems: list[str]) -> None:
    for stem in {stem for stem in stems if stems.count(stem) > 1}:
        raise InputError(
            f"two images are called {stem!r}, so their masks would have the same name; segment "
            "them in two calls, each with its own --out"
        )


def _print(confusions: dict[str, np.ndarray], names: tuple[str, ...]) -> dict[str, float]:
    """Print a line for each image with a known mask; return the metrics of all pixels."""
    if not confusions:
        return {}
    table = Table()
    for column in ("image", "Dice", "IoU", "pixel error"):
        table.add_column(column, justify="left" if column == "image" else "right")
    together = confusion_metrics(sum(confusions.values(), np.zeros(())), names)
    rows = {name: confusion_metrics(each, names) for name, each in confusions.items()}
    for name, figures in rows.items():
        table.add_row(name, *_cells(figures))
    table.add_section()
    table.add_row("all pixels", *_cells(together))
    console = Console()
    console.print(table)
    for line in class_lines(together):
        console.print(line, highlight=False, markup=False)
    return together


def _cells(figures: dict[str, float]) -> tuple[str, str, str]:
    return f"{figures['dice']:.4f}", f"{figures['iou']:.4f}", f"{figures['pixel_error']:.2%}"
