"""Accuracy on variants of ImageNet: `python -m flax_resnet robustness resnet50.a1_in1k`."""

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flax_resnet.commands.networks import add_key_argument, add_train_size
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, printable
from flax_resnet.files import replace_text, writable
from flax_resnet.inference.robustness import SETS, parse_set, robustness
from flax_resnet.training.networks import open_network
from flax_resnet.training.runs import replace_data

EXAMPLE = "robustness resnet50.a1_in1k resnet50.tv2_in1k --csv robustness.csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("weights", nargs="+", help="published names, files, folders or runs")
    parser.add_argument(
        "--sets",
        nargs="+",
        metavar="SET",
        default=list(SETS),
        help=f"of {', '.join(SETS)} (default: all), each from tfds: or, as SET=SOURCE, from "
        "elsewhere, such as sketch=folder:sketch or c=folder:imagenet-c/{corruption}/{severity}",
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a CSV table as well")
    parser.add_argument("--data-dir", help="folder of prepared tfds: data sets")
    parser.add_argument(
        "--batch-size", type=int, help="images at a time; does not change the result"
    )
    add_key_argument(parser)
    add_train_size(parser)


def run(args: argparse.Namespace) -> Done:
    """Print a row for each network; the file grows with each of them."""
    sets = dict(map(parse_set, args.sets))
    if len(sets) < len(args.sets):
        raise InputError(f"--sets is {' '.join(args.sets)}; expected each set once")
    console = Console(highlight=False, soft_wrap=True, markup=False)
    rows: list[dict[str, Any]] = []
    for name in args.weights:
        network = open_network(name, key=args.key)
        data = replace_data(
            network.origin.data(args.train_size),
            data_dir=args.data_dir,
            eval_batch_size=args.batch_size,
        )
        console.print(f"{printable(network.name)}:")
        found = robustness(network, sets, data, on_set=lambda name: console.print(printable(name)))
        rows.append({"network": network.name, "size": data.test_size, **found})
        if args.csv is not None:
            with writable(args.csv):
                replace_text(args.csv, as_csv(rows))
    Console().print(robustness_table(rows))
    if args.csv is not None:
        console.print(f"table: {printable(args.csv)}")
    return Done({"networks": rows})


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV: accuracies and corruption errors as shares of 1."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


def robustness_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the accuracies and of the mean corruption error."""
    keys = [key for key in rows[0] if not key.startswith("ce/")]
    table = Table(title="top-1 accuracy; mCE: mean corruption error, of AlexNet 100 %")
    for key in keys:
        table.add_column(
            "mCE" if key == "mce" else key, justify="left" if key == "network" else "right"
        )
    for row in rows:
        cells = (f"{row[k]:.2%}" if isinstance(row[k], float) else str(row[k]) for k in keys)
        table.add_row(*(escape(printable(cell)) for cell in cells))
    return table
