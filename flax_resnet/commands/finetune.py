"""Fine-tune on a folder of images: `python -m flax_resnet finetune photos`."""

import argparse
import functools
import re
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flax_resnet.commands.evaluate import labels_table
from flax_resnet.commands.networks import add_key_argument
from flax_resnet.commands.report import report_when_done
from flax_resnet.commands.reporting import Done, progress_report
from flax_resnet.data.sources.csv import Row, classes_of, has_several
from flax_resnet.errors import printable
from flax_resnet.finetune.pictures import single_classes
from flax_resnet.finetune.resuming import resumed_config
from flax_resnet.finetune.settings import BALANCES, SCRATCH_MODEL, Counts, finetune_config
from flax_resnet.finetune.split import CHOICES, TABLE, settle_split
from flax_resnet.inference.confusion import (
    Confusion,
    confusion_matrix,
    read_confusion,
    worst_mistakes,
    write_confusion,
)
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.checkpoints.store import newest_step
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.loop import train
from flax_resnet.training.runs import Run, default_split, evaluate_run, restore

EXAMPLE = "finetune photos --weights timm/resnet50.a1_in1k"
_WEIGHTS = "timm/resnet50.a1_in1k"
CONFUSION = "confusion.csv"
# The most items that a warning lists.
_LISTED = 5
# The most classes for which the whole confusion matrix is printed.
_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "photos", type=Path, help="PHOTOS/CLASS/*.jpg, or PHOTOS/train/CLASS and PHOTOS/val/CLASS"
    )
    parser.add_argument(
        "--csv",
        type=Path,
        help="a table with the columns file, label and, optionally, split; or labels, for images "
        "with any number of classes, as in 'cat;dog'",
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="include images that links point to"
    )
    parser.add_argument(
        "--weights",
        default=_WEIGHTS,
        help=f"a published name, a file, a folder, a run, or none (default: {_WEIGHTS})",
    )
    add_key_argument(parser)
    parser.add_argument("--model", help="default: the weights' own, or resnet18 without weights")
    parser.add_argument(
        "--epochs",
        type=float,
        help="default: by the number of images; a larger number continues a finished run",
    )
    parser.add_argument("--batch-size", type=int, help="default: by the number of images")
    parser.add_argument(
        "--image-size", type=int, help="pixels (default: the size the weights were trained for)"
    )
    parser.add_argument("--rate", type=float, metavar="LR", help="peak learning rate of the head")
    parser.add_argument(
        "--balance",
        choices=BALANCES,
        help="give classes of different sizes the same share: in the loss (weights), or by showing "
        "rare ones more often (sampling); default: none",
    )
    parser.add_argument(
        "--validation",
        type=float,
        default=0.2,
        metavar="PART",
        help="share of every class held out to choose the best checkpoint (default: 0.2)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the split and of the run (default: 0)"
    )
    parser.add_argument("--workdir", type=Path, help="default: runs/PHOTOS-WEIGHTS")
    parser.add_argument(
        "--keep-split",
        action="store_true",
        help="continue a run although its images have changed: without what is new",
    )
    parser.add_argument(
        "--allow-config-change",
        "--allow_config_change",
        action="store_true",
        help="continue a run although its settings differ",
    )


def run(args: argparse.Namespace) -> Done:
    """Split, train and evaluate, unless this is already done; print metrics and what to do next."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    workdir = args.workdir or _default_workdir(args)
    config = _config(args, workdir, _split(args, workdir, console))
    before = newest_step(workdir)
    with warnings.catch_warnings():
        # The head is meant to be replaced.
        warnings.filterwarnings("ignore", message=".*its head is initialized at random")
        trained = train(config, workdir, allow_config_change=args.allow_config_change)
    best = restore(workdir)
    if best.config.task == "multilabel":
        return _done_several(console, best, trained.step > before)
    split, table = default_split(best.config.data), workdir / CONFUSION
    if trained.step == before and table.exists():
        confusion = read_confusion(table)
    else:
        confusion = confusion_matrix(best)
        write_confusion(table, confusion, best.class_names)
        _report(console, confusion, best.class_names, f"step {best.step}, {split}", workdir)
    accuracy = float(confusion.trace() / max(confusion.sum(), 1))
    facts = {"run": str(workdir), "step": best.step, "split": split, "accuracy": accuracy}
    return Done({**facts, "classes": best.class_names, "confusion": confusion.tolist()})


def _done_several(console: Console, best: Run, is_new: bool) -> Done:
    """Print the metrics of a run whose images can have several classes, and what to do next."""
    split = default_split(best.config.data)
    metrics = evaluate_run(best)
    if is_new:
        console.print(labels_table(metrics))
        line = TASKS["multilabel"].line.format_map(metrics)
        console.print(
            f"{line}: {metrics['count']:.0f} images (step {best.step}, {split}; "
            f"threshold {metrics['threshold']:.3f}, best {metrics['best_threshold']:.3f})"
        )
        console.print(f"run: {best.workdir}")
        _next(console, best.workdir)
    facts = {"run": str(best.workdir), "step": best.step, "split": split}
    return Done({**facts, "classes": best.class_names, **metrics})


def _default_workdir(args: argparse.Namespace) -> Path:
    weights = args.weights if args.weights != "none" else args.model or SCRATCH_MODEL
    names = (args.photos.resolve().name, Path(weights).name)
    return Path("runs") / "-".join(re.sub(r"[^\w.]+", "-", name) for name in names)


def _split(args: argparse.Namespace, workdir: Path, console: Console) -> list[Row]:
    """Return the rows of the run's split, and print how the images were split."""
    with progress_report() as report:
        look = functools.partial(report, "checking the images")
        choices = (args.photos, args.csv, args.validation, args.seed)
        drawn = not (workdir / CHOICES).exists()
        rows, reasons = settle_split(
            workdir, *choices, look, follow_links=args.follow_links, keep=args.keep_split
        )
    if not drawn:
        return rows
    counts = Counter(row.split for row in rows)
    known = ("train", "validation", "test")
    parts = ", ".join(f"{counts[name]:,} {name}" for name in known if counts[name])
    classes, table = len(classes_of(rows)), printable(workdir / TABLE)
    console.print(f"{len(rows):,} images of {classes} classes: {parts} ({table})")
    bad = [f"{printable(file)}: {reason}" for file, reason in reasons.items()]
    _warn("images that cannot be read are left out", bad)
    single = [printable(label) for label in single_classes(rows)]
    _warn("classes with a single image, which is not in any evaluation", single)
    return rows


def _warn(what: str, items: list[str]) -> None:
    if items:
        more = [f"and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
        lines = [f"warning: {what} ({len(items)}):", *items[:_LISTED], *more]
        print("\n  ".join(lines), file=sys.stderr)


def _config(args: argparse.Namespace, workdir: Path, rows: list[Row]) -> TrainConfig:
    counts = Counter(row.split for row in rows)
    given: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("model", "epochs", "batch_size", "image_size", "rate", "balance")
    }
    asked = finetune_config(
        f"csv:{workdir / TABLE}",
        Counts(**counts),
        None if args.weights == "none" else args.weights,
        **given,
        key=args.key,
        seed=args.seed,
        devices=jax.device_count(),
        several_labels=has_several(rows),
    )
    return resumed_config(workdir, asked, **given, allow_change=args.allow_config_change)


def _report(
    console: Console, confusion: Confusion, names: tuple[str, ...], what: str, workdir: Path
) -> None:
    right, total = int(confusion.trace()), int(confusion.sum())
    console.print(confusion_table(console, confusion, names))
    console.print(f"accuracy {right / max(total, 1):.2%}: {right} of {total} images ({what})")
    console.print(f"run: {workdir}\nconfusion matrix: {workdir / CONFUSION}")
    _next(console, workdir)


def _next(console: Console, workdir: Path) -> None:
    """Write the report, and print the commands to use next."""
    report_when_done(workdir, shlex.join(["python", "-m", "flax_resnet", *sys.argv[1:]]))
    folder = shlex.quote(str(workdir))
    console.print(
        f"next:\n  python -m flax_resnet predict {folder} MORE_PHOTOS\n"
        f"  python -m flax_resnet finetune MORE_PHOTOS --weights {folder}\n"
        f"  flax_resnet.restore({str(workdir)!r})  # in Python: .model, .variables, .class_names"
    )


def confusion_table(console: Console, confusion: np.ndarray, names: Sequence[str]) -> Table:
    """Return a confusion matrix as a table, or its largest errors if it is too large.

    Args:
      console: the screen that the table has to fit on.
    """
    names = [printable(name) for name in names]
    table = _whole(confusion[:_SHOWN, :_SHOWN], names[:_SHOWN])
    # Without a larger `max_width`, the measured width is cut to the screen.
    wide = console.options.update(max_width=2**16)
    fits = console.measure(table, options=wide).maximum <= console.width
    return table if fits and len(names) <= _SHOWN else _worst(confusion, names)


def _whole(confusion: np.ndarray, names: Sequence[str]) -> Table:
    table = Table(title="confusion matrix: true classes (rows) and predictions (columns)")
    table.add_column("truth")
    for name in names:
        table.add_column(Text(name), justify="right")
    table.add_column("right", justify="right")
    for at, (name, row) in enumerate(zip(names, confusion, strict=True)):
        # Only errors are highlighted.
        cells = [
            Text(str(count), "bold" if other == at else "red" if count else "dim")
            for other, count in enumerate(row.tolist())
        ]
        table.add_row(Text(name), *cells, _share(row[at], row.sum()))
    return table


def _worst(confusion: np.ndarray, names: Sequence[str]) -> Table:
    table = Table(title="most frequent confusions")
    for column in ("truth", "prediction"):
        table.add_column(column, overflow="fold")
    for column in ("images", "of"):
        table.add_column(column, justify="right")
    for truth, found, count in worst_mistakes(confusion):
        total = str(confusion[truth].sum())
        table.add_row(Text(names[truth]), Text(names[found]), str(count), total)
    return table


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"
