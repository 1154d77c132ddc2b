"""List the networks by name: `python -m flax_resnet models 'resnet50*'`."""

import argparse
from collections import defaultdict

from rich import box
from rich.console import Console
from rich.table import Table

HELP = "list networks: parameters, multiply-adds, input size, published weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="names to list, such as 'resnet50*' (default: all)"
    )


def run(args: argparse.Namespace) -> int:
    """Print a table of the networks whose names match."""
    from flax_resnet.errors import InputError, expected_names
    from flax_resnet.models import count_macs, count_parameters, create_model, list_models
    from flax_resnet.models.variants import VARIANTS
    from flax_resnet.weights import find_published, list_pretrained

    names = list_models(args.pattern)
    if not names:
        raise InputError(
            f"no network matches {args.pattern!r}: {expected_names(args.pattern, VARIANTS)}"
        )
    published = defaultdict(list)
    for name in list_pretrained():
        row = find_published(name)
        top1 = f" {row.top1:.1f}" if row.top1 is not None else ""
        published[row.architecture].append(row.tag + top1)

    console = Console()
    title = f"{len(names)} networks; weights with their published top-1 in %"
    table = Table("network", title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("parameters", "MACs", "pixels", "classes"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("weights", overflow="fold")
    with console.status("counting") as status:  # about half a second each
        for name in names:
            status.update(f"counting {name}")
            model = create_model(name)
            table.add_row(
                name,
                f"{count_parameters(model):,}",
                f"{count_macs(model):,}",
                str(model.image_size),
                str(model.num_classes),
                ", ".join(published[name]),
            )
    console.print(table)
    return 0
