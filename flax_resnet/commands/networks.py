"""The arguments that name a network: a run or weights, and which of those that it has."""

import argparse


def add_network_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare `run`, `--step`, `--raw` and `--key`."""
    parser.add_argument(
        "run", help="folder of a run, such as runs/photos, or weights, such as resnet50.a1_in1k"
    )
    parser.add_argument("--step", default="best", help="best, latest or a number (default: best)")
    parser.add_argument(
        "--raw", action="store_true", help="use the raw parameters, not their average"
    )
    add_key_argument(parser)


def add_key_argument(parser: argparse.ArgumentParser) -> None:
    """Declare `--key`."""
    parser.add_argument(
        "--key",
        metavar="NAME",
        help="the part of a file of weights to use, such as state_dict (default: the average)",
    )
