"""Evaluate a run: `python -m flax_resnet eval runs/digits`."""

import argparse

from rich.console import Console
from rich.table import Table

HELP = "restore a run and evaluate it on a split"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", help="folder of the run, such as runs/digits")
    parser.add_argument("--step", default="best", help="best, latest or a number (default: best)")
    parser.add_argument("--data", metavar="SOURCE", help="other data than the run's own")
    parser.add_argument("--data-dir", help="where TFDS data lies")
    parser.add_argument("--split", help="default: the run's test split")
    parser.add_argument("--batch-size", type=int, help="images at a time; the result is the same")


def run(args: argparse.Namespace) -> int:
    """Print a table of loss, top-1 and top-5."""
    from flax_resnet.training.runs import default_split, evaluate_run, replace_data, restore

    restored = restore(args.run, args.step)
    data = replace_data(
        restored.config.data,
        source=args.data,
        data_dir=args.data_dir,
        test_split=args.split,
        eval_batch_size=args.batch_size,
    )
    metrics = evaluate_run(restored, data)
    table = Table(title=f"{restored.config.model.name} at step {restored.step} ({args.step})")
    for column in ("data", "images", "loss", "top-1", "top-5"):
        table.add_column(column, justify="left" if column == "data" else "right")
    table.add_row(
        f"{data.source} {default_split(data)}",
        f"{metrics['count']:,.0f}",
        f"{metrics['loss']:.4f}",
        f"{metrics['top1']:.2%}",
        f"{metrics['top5']:.2%}",
    )
    console = Console()
    console.print(table)
    if metrics["skipped"]:
        console.print(f"{metrics['skipped']:.0f} records could not be decoded and were left out")
    console.print(f"run: {restored.workdir}", soft_wrap=True, highlight=False)
    return 0
