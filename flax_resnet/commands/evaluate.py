"""Evaluate a run or weights: `python -m flax_resnet eval runs/digits`."""

import argparse
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from flax_resnet.commands.networks import add_network_arguments
from flax_resnet.commands.predict import add_train_size
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.networks import TrainedNetwork, find_network, open_network
from flax_resnet.training.runs import default_split, evaluate_model, replace_data

EXAMPLE = "eval runs/digits --step latest"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_network_arguments(parser)
    parser.add_argument(
        "--data",
        metavar="SOURCE",
        help="data to use instead of the run's own: folder:PATH, hf:OWNER/NAME, tfds:NAME ...",
    )
    parser.add_argument("--data-dir", help="folder of prepared tfds: and hf: data sets")
    parser.add_argument("--split", help="default: the run's test split; validation for weights")
    parser.add_argument(
        "--batch-size", type=int, help="images at a time; does not change the result"
    )
    parser.add_argument(
        "--flip",
        action="store_true",
        default=None,
        help="average the logits of each image and of its mirror image",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--image-size", type=int, help="pixels (default: the test size of the run or the weights)"
    )
    add_train_size(size)


def run(args: argparse.Namespace) -> Done:
    """Print a table of the metrics of the task: loss, top-1 and top-5, or loss, Dice and others."""
    origin = find_network(args.run)
    if origin.config is None and args.data is None:
        raise InputError(
            f"{args.run} is not a run, so it has no data of its own: pass --data SOURCE"
        )
    data = replace_data(origin.data(args.train_size), **_changes(args))
    task = origin.task
    network = open_network(args.run, step=args.step, average=not args.raw, key=args.key)
    title, where = _titles(network, args)
    if task == "classification":
        where += f", {data.test_size} pixels, crop {data.eval_crop:g}"
    metrics = evaluate_model(
        network.model,
        network.variables,
        data,
        task=task,
        class_names=network.class_names,
        name=args.run,
    )
    columns = {"data": "{data}", "images": "{count:,.0f}"}
    columns |= TASKS[task].columns
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
    if unlabeled := metrics.get("unlabeled"):
        console.print(f"{unlabeled:,.0f} images have no label and were left out")
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
