"""Evaluate a run or weights: `python -m flax_resnet eval runs/digits`."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.networks import TrainedNetwork, find_network, open_network
from flax_resnet.training.runs import default_split, evaluate_model, replace_data

EXAMPLE = "eval runs/digits --step latest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "run", help="folder of a run, such as runs/digits, or weights, such as resnet50.a1_in1k"
    )
    parser.add_argument("--step", default="best", help="best, latest or a number (default: best)")
    parser.add_argument("--data", metavar="SOURCE", help="data to use instead of the run's own")
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument("--split", help="default: the run's test split; validation for weights")
    parser.add_argument(
        "--batch-size", type=int, help="images at a time; does not change the result"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="use the raw parameters, not their average",
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        default=None,
        help="average the logits of each image and of its mirror image",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        help="pixels (default: the run's size, or the size the weights were trained for)",
    )


def run(args: argparse.Namespace) -> Done:
    """Print a table of the metrics of the task: loss, top-1 and top-5, or loss, Dice and others."""
    origin = find_network(args.run)
    if origin.config is None and args.data is None:
        raise InputError(
            f"{args.run} is not a run, so it has no data of its own: pass --data SOURCE"
        )
    data, task = replace_data(origin.data, **_changes(args)), origin.task
    network = open_network(args.run, step=args.step, average=not args.raw)
    title, where = _titles(network, args)
    metrics = evaluate_model(
        network.model, network.variables, data, task=task, same_classes=network.run is None
    )
    columns = {"data": "{data}", "images": "{count:,.0f}"}
    columns |= TASKS[task].shown_for(network.model.num_classes).columns
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "data" else "right")
    values = {"data": f"{data.source} {default_split(data)}", **metrics}
    table.add_row(*(text.format_map(values) for text in columns.values()))
    console = Console()
    console.print(table)
    for line in class_lines(metrics):
        console.print(line, highlight=False, markup=False)
    if metrics["skipped"]:
        console.print(f"{metrics['skipped']:.0f} records could not be decoded and were left out")
    console.print(where, soft_wrap=True, highlight=False)
    return Done({"of": title, "data": data.source, "split": default_split(data), **metrics})


def class_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return a line for each class that has its own metrics."""
    names = [key.removeprefix("dice/") for key in metrics if key.startswith("dice/")]
    return [
        f"{name}: Dice {metrics[f'dice/{name}']:.4f}, IoU {metrics[f'iou/{name}']:.4f}"
        for name in names
    ]


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    return dict(
        source=args.data,
        data_dir=args.data_dir,
        test_split=args.split,
        eval_batch_size=args.batch_size,
        eval_size=args.image_size,
        eval_flip=args.flip,
    )


def _titles(network: TrainedNetwork, args: argparse.Namespace) -> tuple[str, str]:
    """Return the title of the table, and the line below it that says what was evaluated."""
    run = network.run
    if run is None:
        return args.run, f"weights: {args.run}"
    average = "" if run.average is None else f", {run.average}"
    title = f"{run.config.model.name} at step {run.step} ({args.step}{average})"
    return title, f"run: {run.workdir}"
