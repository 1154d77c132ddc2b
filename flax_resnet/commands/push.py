"""Publish a run on the hub: `python -m flax_resnet push runs/photos someone/photos`."""

import argparse
from pathlib import Path

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import printable
from flax_resnet.report.publishing import push_to_hub, write_repository

EXAMPLE = "push runs/photos someone/photos --license apache-2.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", help="folder of a run, such as runs/photos")
    parser.add_argument("repository", help="OWNER/NAME on the hub; made if it does not exist")
    parser.add_argument(
        "--license",
        metavar="ID",
        help="such as apache-2.0 (default: that of the weights that the run started from)",
    )
    parser.add_argument("--step", default="best", help="best, latest or a number (default: best)")
    parser.add_argument(
        "--raw", action="store_true", help="use the raw parameters, not their average"
    )
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the files here and upload nothing"
    )


def run(args: argparse.Namespace) -> Done:
    """Upload the run and print its address, or write the files."""
    chosen = {"license": args.license, "step": args.step, "average": not args.raw}
    if args.out is not None:
        write_repository(args.run, args.repository, args.out, **chosen)
        print(f"{printable(args.out)}: README.md, curves.png, model.safetensors, config.json")
        return Done({"path": str(args.out), "repository": args.repository})
    address = push_to_hub(args.run, args.repository, private=args.private, **chosen)
    print(address)
    return Done({"address": address, "repository": args.repository})
