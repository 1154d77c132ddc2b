"""Describe a network part by part: `python -m flax_resnet summary resnet50 --image-size 224`."""

import argparse
import dataclasses

from rich import box
from rich.console import Console
from rich.table import Table

from flax_resnet.commands.reporting import Done
from flax_resnet.models import count_parameters, create_model, summarize
from flax_resnet.models.variables import example_images

EXAMPLE = "summary resnet50 --image-size 224"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", help="a network's name, such as resnet50")
    parser.add_argument(
        "--image-size", type=int, help="pixels (default: the size the network is made for)"
    )
    parser.add_argument(
        "--num-classes", type=int, help="outputs (default: those of the table of networks)"
    )
    parser.add_argument("--dtype", help="compute dtype (default: float32)")


def run(args: argparse.Namespace) -> Done:
    """Print a table with a line for each part."""
    given = dict(num_classes=args.num_classes, image_size=args.image_size, dtype=args.dtype)
    chosen = {key: value for key, value in given.items() if value is not None}
    model = create_model(args.model, **chosen)
    parts = summarize(model)
    size = example_images(model).shape[1]
    table = Table(
        title=f"{args.model}, one image of {size} x {size} pixels", box=box.SIMPLE, pad_edge=False
    )
    table.add_column("part", no_wrap=True)
    for column in ("maps", "parameters", "MACs", "MiB", "field", "stride"):
        table.add_column(column, justify="right", no_wrap=True)
    for part in parts:
        table.add_row(
            part.name,
            " x ".join(map(str, part.shape)),
            f"{part.parameters:,}",
            f"{part.macs:,}",
            _megabytes(part.activations),
            str(part.receptive_field or ""),
            str(part.stride or ""),
        )
    table.add_section()
    table.add_row(
        "all",
        "",
        f"{sum(part.parameters for part in parts):,}",
        f"{sum(part.macs for part in parts):,}",
        _megabytes(sum(part.activations for part in parts)),
    )
    console = Console()
    console.print(table)
    console.print(
        "MiB: memory of the outputs of convolutions, dense layers and norms, in "
        f"{args.dtype or 'float32'}\n"
        "field: side of the square of pixels that a value depends on; stride: pixels between values"
    )
    statistics = count_parameters(model, "batch_stats")
    if statistics:
        console.print(f"batch statistics: {statistics:,} numbers, which are not parameters")
    return Done({"network": args.model, "parts": [dataclasses.asdict(part) for part in parts]})


def _megabytes(count: int) -> str:
    return f"{count / 2**20:,.1f}"
