"""Prepare a data set ahead of time."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress, TimeRemainingColumn

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError

HELP = "prepare a data set: pack the ImageNet archives, or fetch and convert one of TFDS"
EXAMPLE = "prepare imagenet --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar"
# Where there is no terminal to draw bars on.
_SECONDS_PER_LINE = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `prepare` takes."""
    parser.add_argument("what", help="imagenet, digits or tfds:NAME[/config][:version]")
    parser.add_argument("--data-dir", help="where TFDS data lies (default: TFDS's own)")
    group = parser.add_argument_group("imagenet")
    group.add_argument("--train", type=Path, help="ILSVRC2012_img_train.tar")
    group.add_argument("--val", type=Path, help="ILSVRC2012_img_val.tar")
    group.add_argument(
        "--resize", type=int, metavar="SHORT_SIDE", help="shrink images to this short side"
    )
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")


def run(args: argparse.Namespace) -> Done:
    """Prepare what is named and say where it lies."""
    # The data stack takes a second to import: not for every `--help`.
    from flax_resnet.data.batches.workers import available_cores
    from flax_resnet.data.prepare.imagenet import pack_imagenet
    from flax_resnet.data.sources.digits import FlaxResnetDigits
    from flax_resnet.data.sources.tfds import find_builder, prepare

    if args.what == "imagenet":
        with progress_report() as report:
            folder = pack_imagenet(
                args.train,
                args.val,
                args.data_dir,
                resize_to=args.resize,
                workers=args.workers or available_cores(),
                report=report,
            )
        print(f"tfds:imagenet2012 lies in {folder}")
        return Done({"data": "tfds:imagenet2012", "folder": str(folder)})
    if args.what != "digits" and not args.what.startswith("tfds:"):
        raise InputError(
            f"Nothing is known about preparing {args.what!r}; expected imagenet, digits or "
            "tfds:NAME. Images in folders need no preparation: config.data.source=folder:PATH."
        )
    if args.what == "digits":
        builder = FlaxResnetDigits(data_dir=args.data_dir)
    else:
        builder = find_builder(args.what.removeprefix("tfds:"), args.data_dir)
    prepare(builder, args.what)
    print(f"{args.what} lies in {builder.data_dir}")
    return Done({"data": args.what, "folder": str(builder.data_dir)})


@contextmanager
def progress_report() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a report of (what, done, total): bars on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        columns = [*Progress.get_default_columns()[:-1], TimeRemainingColumn()]
        with Progress(*columns) as bars:
            tasks: dict[str, int] = {}

            def draw(what: str, done: int, total: int) -> None:
                task = tasks.setdefault(what, len(tasks))
                if task == len(bars.tasks):
                    bars.add_task(what, total=total)
                bars.update(bars.tasks[task].id, completed=done)

            yield draw
    else:
        printed: dict[str, float] = {}

        def write(what: str, done: int, total: int) -> None:
            now = time.monotonic()
            if done == total or now - printed.setdefault(what, now) >= _SECONDS_PER_LINE:
                printed[what] = now
                print(f"{what}: {done:,} of {total:,} ({done / total:.0%})", flush=True)

        yield write
