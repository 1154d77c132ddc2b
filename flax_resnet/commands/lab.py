"""Run an experiment on skip connections: `python -m flax_resnet lab degradation`."""

import argparse
import contextlib
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from flax_resnet.commands.reporting import Done, signs_of_life
from flax_resnet.lab import EXPERIMENTS, load_experiment, perform
from flax_resnet.lab.settings import to_words

EXAMPLE = "lab degradation depth=20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("name", nargs="?", help="the experiment; without a name, all are listed")
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="SETTING=VALUE",
        help="such as data=fashion_mnist epochs=5; tuples are written 20,56",
    )
    parser.add_argument("--out", default="runs/lab", help="folder to write to (default: runs/lab)")
    parser.add_argument(
        "--size", default="small", help="small (minutes on a CPU, the default) or paper"
    )
    parser.add_argument("--show-settings", action="store_true", help="print the settings and stop")


def run(args: argparse.Namespace) -> Done:
    """Run the experiment; print its finding and where the numbers and the plot are."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if args.name is None:
        for name, claim in EXPERIMENTS.items():
            console.print(f"{name:12} {claim}")
        return Done({"experiments": EXPERIMENTS})
    if args.show_settings:
        sizes = load_experiment(args.name).sizes
        words = {size: to_words(settings) for size, settings in sizes.items()}
        for size, settings in words.items():
            console.print(f"{size}: {shlex.join(settings)}")
        return Done({"settings": words})
    with _progress(console) as progress, _signs(console, args.name, progress):

        def track(items: Iterable[Any], description: str) -> Iterator[Any]:
            items = list(items)
            task = progress.add_task(description, total=len(items))
            for item in items:
                yield item
                progress.advance(task)
            progress.remove_task(task)

        report = perform(args.name, args.out, args.size, args.settings, track)
    console.print(report.finding)
    console.print(f"numbers: {report.numbers}\nplot: {report.plot}")
    where = {"numbers": str(report.numbers), "plot": str(report.plot)}
    return Done({"finding": report.finding, **where})


def _signs(
    console: Console, name: str, progress: Progress
) -> contextlib.AbstractContextManager[None]:
    """Return the lines that stand for bars where there is no terminal."""

    def describe() -> str:
        tasks = progress.tasks
        parts = [f"{task.completed:g} of {task.total:g} {task.description}" for task in tasks]
        return ", ".join([f"lab {name}", *parts])

    return contextlib.nullcontext() if console.is_terminal else signs_of_life(describe)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
