"""Evaluate a run or weights: `python -m flax_resnet eval runs/digits`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flax_resnet.commands.networks import (
    add_network_arguments,
    add_threshold,
    add_train_size,
)
from flax_resnet.commands.reporting import Done
from flax_resnet.data import DataConfig
from flax_resnet.data.sources.folder import canonical_split
from flax_resnet.data.sources.source import has_several_labels, share_images
from flax_resnet.errors import InputError, printable
from flax_resnet.inference.assessment import assess
from flax_resnet.inference.calibration import BINS
from flax_resnet.inference.scores import open_labeled
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.networks import TrainedNetwork, find_network, open_network
from flax_resnet.training.runs import default_split, evaluate_model, replace_data

EXAMPLE = "eval runs/digits --step latest"
# Classes that are printed, those that are recognized worst.
_WORST = 10


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
        "--temperature",
        metavar="SPLIT",
        help="fit a temperature on this split, such as validation, and print the calibration that "
        "it gives the split that is evaluated",
    )
    add_threshold(parser)
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
    """Print a table of the metrics of the task: loss, top-1 and top-5, or loss, mAP and others."""
    origin = find_network(args.run)
    if origin.config is None and args.data is None:
        raise InputError(
            f"{args.run} is not a run, so it has no data of its own: pass --data SOURCE"
        )
    data = replace_data(origin.data(args.train_size), **_changes(args))
    task = origin.task
    network = open_network(args.run, step=args.step, average=not args.raw, key=args.key)
    title, where = _titles(network, args)
    if task != "segmentation":
        where += f", {data.test_size} pixels, crop {data.eval_crop:g}"
    metrics = _evaluate(network, data, args)
    columns = {"data": "{data}", "images": "{count:,.0f}"}
    columns |= TASKS[task].shown_for(network.model.num_classes).columns
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column == "data" else "right")
    values = {"data": f"{data.source} {default_split(data)}", **metrics}
    table.add_row(*(text.format_map(values) for text in columns.values()))
    console = Console()
    console.print(table)
    for line in [*class_lines(metrics), *measure_lines(metrics), *threshold_lines(metrics)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if "classes" in metrics:
        console.print(class_table(metrics["classes"]))
    if task == "multilabel":
        console.print(labels_table(metrics))
    if metrics["skipped"]:
        console.print(f"{metrics['skipped']:.0f} records could not be decoded and were left out")
    if competing := metrics.get("competing_classes"):
        console.print(f"predictions are chosen among the {competing:,.0f} classes of the data")
    if unlabeled := metrics.get("unlabeled"):
        console.print(f"{unlabeled:,.0f} images have no label and were left out")
    console.print(where, soft_wrap=True, highlight=False)
    return Done({"of": title, "data": data.source, "split": default_split(data), **metrics})


def _evaluate(
    network: TrainedNetwork, data: DataConfig, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the metrics of the task, and the measures of classification where they apply."""
    threshold = network.threshold(args.threshold)
    if network.origin.task == "classification":
        found = open_labeled(
            data, default_split(data), network.class_names, network.model, args.run
        )
        if not has_several_labels(found):
            if args.temperature is not None:
                check_other_images("--temperature", args.temperature, default_split(data))
            return assess(network, found, data, args.temperature)
    if args.temperature is not None:
        raise InputError(
            f"--temperature is {args.temperature!r}; expected none, because it is fitted to images "
            f"that have one class each, and those of {data.source} do not"
        )
    return evaluate_model(
        network.model,
        network.variables,
        data,
        task=network.origin.task,
        class_names=network.class_names,
        name=args.run,
        threshold=threshold or 0.5,
    )


def check_other_images(option: str, split: str, evaluated: str) -> None:
    """Refuse to judge what is fitted to images on the same images.

    Args:
      option: with the split to fit on.
      evaluated: the split to judge by.
    """
    if share_images(canonical_split(split), canonical_split(evaluated)):
        raise InputError(
            f"{option} is {split!r} and the split that is evaluated is {evaluated!r}, which have "
            "images in common; expected other images, because the result would be too good"
        )


def class_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return a line for each class that has its own metrics."""
    names = [key.removeprefix("dice/") for key in metrics if key.startswith("dice/")]
    return [
        f"{name}: Dice {metrics[f'dice/{name}']:.4f}, IoU {metrics[f'iou/{name}']:.4f}"
        for name in names
    ]


def threshold_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return what the table says where an image can have several classes."""
    if "threshold" not in metrics:
        return []
    return [
        f"at the threshold {metrics['threshold']:.3f}: precision {metrics['precision']:.2%}, "
        f"recall {metrics['recall']:.2%}; each class counts alike in both, in F1 and in mAP. "
        f"On these images micro F1 is the best at {metrics['best_threshold']:.3f}"
    ]


def labels_table(metrics: Mapping[str, float]) -> Table:
    """Return a table of the classes that are found worst, where an image can have several."""
    names = [key.removeprefix("ap/") for key in metrics if key.startswith("ap/")]
    worst = sorted(names, key=lambda name: metrics[f"ap/{name}"])[:_WORST]
    rest = f"; --json has all {len(names):,}" if len(names) > len(worst) else ""
    table = Table(title=f"classes by average precision, the worst first{rest}")
    for column in ("class", "AP", "F1"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for name in worst:
        shares = (f"{metrics[f'{key}/{name}']:.2%}" for key in ("ap", "f1"))
        table.add_row(escape(printable(name)), *shares)
    return table


def measure_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return what `assess` adds to the table: means over classes, intervals, calibration."""
    if "classes" not in metrics:
        return []
    names = {"top1": "top-1", "precision": "precision", "recall": "recall", "f1": "F1"}
    ends = metrics["intervals"]
    means = [
        f"{title} {metrics[key]:.2%}" + (f" ({low:.2%} to {high:.2%})" if ends else "")
        for key, title in names.items()
        for low, high in [ends.get(key, (0, 0))]
    ]
    lines = [
        f"{', '.join(means)}: each class counts alike in the last three; 95 % intervals",
        f"calibration: ECE {metrics['ece']:.4f} in {BINS} bins",
    ]
    if found := metrics.get("calibrated"):
        lines[1] += (
            f"; at temperature {found['temperature']:.3f}, fitted on {found['fitted_on']}: "
            f"ECE {found['ece']:.4f}, loss {found['loss']:.4f}"
        )
    return lines


def class_table(classes: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the classes that are recognized worst."""
    worst = sorted(classes, key=lambda each: each["f1"])[:_WORST]
    rest = f"; --json has all {len(classes):,}" if len(classes) > len(worst) else ""
    table = Table(title=f"classes by F1, the worst first{rest}")
    for column in ("class", "precision", "recall", "F1", "images"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for each in worst:
        shares = (f"{each[key]:.2%}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(printable(each["class"])), *shares, f"{each['images']:,}")
    return table


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
