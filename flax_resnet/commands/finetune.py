"""Train on a folder of pictures: `python -m flax_resnet finetune photos`."""

from __future__ import annotations

import argparse
import functools
import re
import shlex
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from flax_resnet.commands.prepare import progress_report
from flax_resnet.commands.report import report_when_done
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import printable

if TYPE_CHECKING:
    from flax_resnet.data.sources.csv import Row
    from flax_resnet.inference.confusion import Confusion
    from flax_resnet.training.config import TrainConfig

HELP = "train on a folder of pictures, starting from weights; then show what is mixed up with what"
EXAMPLE = "finetune photos --weights timm/resnet50.a1_in1k"
_WEIGHTS = "timm/resnet50.a1_in1k"
# Of what a warning is about, so many.
_LISTED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "photos", type=Path, help="PHOTOS/CLASS/*.jpg, or PHOTOS/train/CLASS and PHOTOS/val/CLASS"
    )
    parser.add_argument(
        "--csv", type=Path, help="a table with the columns file, label and perhaps split"
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="take pictures that lie elsewhere, too"
    )
    parser.add_argument(
        "--weights",
        default=_WEIGHTS,
        help=f"a published name, a file, a folder, a run, or none (default: {_WEIGHTS})",
    )
    parser.add_argument("--model", help="default: the weights' own; resnet18 where there are none")
    parser.add_argument("--epochs", type=float, help="default: by the number of pictures")
    parser.add_argument("--batch-size", type=int, help="default: by the number of pictures")
    parser.add_argument("--image-size", type=int, help="default: what the weights were made for")
    parser.add_argument("--rate", type=float, metavar="LR", help="peak learning rate of the head")
    parser.add_argument(
        "--validation",
        type=float,
        default=0.2,
        metavar="PART",
        help="of every class, to choose the best checkpoint with (default: 0.2)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the split and the run (default: 0)")
    parser.add_argument("--workdir", type=Path, help="default: runs/PHOTOS-WEIGHTS")


def run(args: argparse.Namespace) -> Done:
    """Split, train and evaluate, as far as that is not done yet; print figures and what is next."""
    from flax_resnet.inference.confusion import confusion_matrix, write_confusion
    from flax_resnet.training.loop import train
    from flax_resnet.training.runs import default_split, restore

    console = Console(highlight=False, soft_wrap=True, markup=False)
    workdir = args.workdir or _default_workdir(args)
    rows = _split(args, workdir, console)
    config = _config(args, workdir, rows)
    with warnings.catch_warnings():
        # A head for other classes is what this command is for.
        warnings.filterwarnings("ignore", message=".*its head is initialized at random")
        train(config, workdir)
    best = restore(workdir)
    confusion, split = confusion_matrix(best), default_split(best.config.data)
    write_confusion(workdir / "confusion.csv", confusion, best.class_names)
    _report(console, confusion, best.class_names, f"step {best.step}, {split}", workdir)
    accuracy = float(confusion.trace() / max(confusion.sum(), 1))
    facts = {"run": str(workdir), "step": best.step, "split": split, "accuracy": accuracy}
    return Done({**facts, "classes": best.class_names, "confusion": confusion.tolist()})


def _default_workdir(args: argparse.Namespace) -> Path:
    from flax_resnet.finetune.settings import SCRATCH_MODEL

    weights = args.weights if args.weights != "none" else args.model or SCRATCH_MODEL
    names = (args.photos.resolve().name, Path(weights).name)
    return Path("runs") / "-".join(re.sub(r"[^\w.]+", "-", name) for name in names)


def _split(args: argparse.Namespace, workdir: Path, console: Console) -> list[Row]:
    """Return the rows of the run's split, and say what became of the pictures."""
    from flax_resnet.finetune.pictures import single_classes
    from flax_resnet.finetune.split import TABLE, settle_split

    with progress_report() as report:
        look = functools.partial(report, "looking at the pictures")
        choices = (args.photos, args.csv, args.validation, args.seed)
        rows, reasons = settle_split(workdir, *choices, look, follow_links=args.follow_links)
    counts = Counter(row.split for row in rows)
    known = ("train", "validation", "test")
    parts = ", ".join(f"{counts[name]:,} {name}" for name in known if counts[name])
    classes, table = len({row.label for row in rows}), printable(workdir / TABLE)
    console.print(f"{len(rows):,} pictures of {classes} classes: {parts} ({table})")
    bad = [f"{printable(file)}: {reason}" for file, reason in reasons.items()]
    _warn("pictures that cannot be read are left out", bad)
    single = [printable(label) for label in single_classes(rows)]
    _warn("classes with a single picture, which no evaluation sees", single)
    return rows


def _warn(what: str, items: list[str]) -> None:
    if items:
        more = [f"and {len(items) - _LISTED} more"] if len(items) > _LISTED else []
        lines = [f"warning: {what} ({len(items)}):", *items[:_LISTED], *more]
        print("\n  ".join(lines), file=sys.stderr)


def _config(args: argparse.Namespace, workdir: Path, rows: list[Row]) -> TrainConfig:
    import jax

    from flax_resnet.finetune.settings import Counts, finetune_config
    from flax_resnet.finetune.split import TABLE

    counts = Counter(row.split for row in rows)
    return finetune_config(
        f"csv:{workdir / TABLE}",
        Counts(**counts),
        None if args.weights == "none" else args.weights,
        model=args.model,
        epochs=args.epochs,
        batch_size=args.batch_size,
        image_size=args.image_size,
        rate=args.rate,
        seed=args.seed,
        devices=jax.device_count(),
    )


def _report(
    console: Console, confusion: Confusion, names: tuple[str, ...], what: str, workdir: Path
) -> None:
    from flax_resnet.commands.confusions import confusion_table

    right, total = int(confusion.trace()), int(confusion.sum())
    console.print(confusion_table(console, confusion, names))
    console.print(f"accuracy {right / max(total, 1):.2%}: {right} of {total} pictures ({what})")
    console.print(f"run: {workdir}\nconfusion matrix: {workdir / 'confusion.csv'}")
    report_when_done(workdir, shlex.join(["python", "-m", "flax_resnet", *sys.argv[1:]]))
    folder = shlex.quote(str(workdir))
    console.print(
        f"next:\n  python -m flax_resnet predict {folder} MORE_PHOTOS\n"
        f"  python -m flax_resnet finetune MORE_PHOTOS --weights {folder}\n"
        f"  flax_resnet.restore({str(workdir)!r})  # in Python: .model, .variables, .class_names"
    )
