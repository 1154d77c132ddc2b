"""The arguments that name a network and the size of its images, and the network that they name."""

import argparse

from flax_resnet.inference.predictor import Predictor, open_predictor


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


def add_train_size(parser: argparse._ActionsContainer) -> None:
    """Declare the flag that chooses between the two sizes of a network's images."""
    parser.add_argument(
        "--train-size",
        action="store_true",
        help="prepare images at the size of training, not at the test size, which is usually "
        "larger and more accurate",
    )


def add_threshold(parser: argparse._ActionsContainer) -> None:
    """Declare the flag of networks that find several classes in an image."""
    parser.add_argument(
        "--threshold",
        metavar="P",
        help="for networks that find several classes in an image: the probability from which a "
        "class counts as predicted, or best, the one with the best F1 on the evaluation split "
        "(default: config.threshold of the run)",
    )


def named_predictor(args: argparse.Namespace) -> Predictor:
    """Open the network that the arguments name."""
    return open_predictor(
        args.run,
        args.step,
        not args.raw,
        args.batch_size,
        key=args.key,
        train_size=args.train_size,
        threshold=getattr(args, "threshold", None),
    )
