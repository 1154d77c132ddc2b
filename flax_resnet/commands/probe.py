"""Judge features by probes: `python -m flax_resnet probe resnet50.a1_in1k folder:photos`."""

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flax_resnet.commands.evaluate import check_other_images
from flax_resnet.commands.networks import (
    add_network_arguments,
    add_train_size,
    named_predictor,
)
from flax_resnet.commands.reporting import Done
from flax_resnet.data import DataConfig, Source, open_source
from flax_resnet.errors import InputError, printable
from flax_resnet.inference.measures import intervals, measures
from flax_resnet.inference.probes import (
    NEIGHBORS,
    Features,
    held_out_scores,
    knn_scores,
    linear_scores,
    split_features,
)
from flax_resnet.inference.scores import Scores
from flax_resnet.inference.suspects import suspects, write_suspects
from flax_resnet.training.checks import check_task
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.runs import replace_data

EXAMPLE = "probe resnet50.a1_in1k folder:photos --split validation"
_TOLD = ("top1", "top5", "precision", "recall", "f1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_network_arguments(parser)
    parser.add_argument(
        "data", metavar="DATA", help="such as folder:photos, csv:labels.csv or tfds:cifar10"
    )
    parser.add_argument("--data-dir", help="folder of TFDS data sets")
    parser.add_argument(
        "--train-split", default="train", metavar="SPLIT", help="fit the probes (default: train)"
    )
    parser.add_argument(
        "--split",
        default="validation",
        metavar="SPLIT",
        help="judge the probes (default: validation)",
    )
    parser.add_argument(
        "--neighbors",
        type=int,
        default=NEIGHBORS,
        metavar="K",
        help=f"that vote (default: {NEIGHBORS})",
    )
    parser.add_argument("--stage", help="of the features: stem, layer1, ... (default: the last)")
    parser.add_argument(
        "--suspects",
        type=Path,
        metavar="FILE",
        help="write a CSV table of the training images whose labels are most likely wrong, each "
        "judged by a linear probe that is fitted to others",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images at a time (default: 32)"
    )
    add_train_size(parser)


def run(args: argparse.Namespace) -> Done:
    """Print a table with a row for each probe."""
    check_other_images("--train-split", args.train_split, args.split)
    if args.neighbors < 1:
        raise InputError(f"--neighbors is {args.neighbors}; expected at least 1")
    predictor = named_predictor(args)
    changes = dict(source=args.data, data_dir=args.data_dir, eval_batch_size=args.batch_size)
    data = replace_data(predictor.data, **changes)
    source, tested = _sources(data, args)
    train = split_features(predictor, source, data, args.stage)
    test = split_features(predictor, tested, data, args.stage)
    neighbors = knn_scores(train, test, args.neighbors)
    linear, strength = linear_scores(train, test)
    facts: dict[str, Any] = {
        "of": predictor.name,
        "data": args.data,
        "train_split": args.train_split,
        "split": args.split,
        "train_images": len(train.labels),
        "images": len(test.labels),
        "features": train.rows.shape[1],
        "knn": {"neighbors": args.neighbors, **_measured(neighbors)},
        "linear": {"strength": strength, **_measured(linear)},
    }
    _print(predictor.name, facts)
    if args.suspects is not None:
        facts["suspects"] = _suspects(train, source, strength, args.suspects)
    return Done(facts)


def _sources(data: DataConfig, args: argparse.Namespace) -> tuple[Source, Source]:
    """Return the images to fit and to judge the probes by, with the same classes."""
    source, tested = open_source(data, args.train_split), open_source(data, args.split)
    for each in (source, tested):
        check_task(each, "classification")
    names = source.class_names
    return source, for_outputs(tested, names, len(names), source.name)


def _measured(scores: Scores) -> dict[str, Any]:
    classes = int(max(scores.truth.max(), scores.predicted.max())) + 1
    found, ends = measures(scores, classes), intervals(scores, classes)
    return {
        **{name: found[name] for name in _TOLD},
        "intervals": {name: ends[name] for name in _TOLD},
    }


def _print(name: str, facts: dict[str, Any]) -> None:
    table = Table(title=escape(printable(name)))
    for column in ("probe", "top-1", "95 % interval", "top-5", "F1"):
        table.add_column(column, justify="left" if column == "probe" else "right")
    titles = {"knn": f"{facts['knn']['neighbors']} neighbors", "linear": "linear"}
    for key, title in titles.items():
        found = facts[key]
        low, high = found["intervals"]["top1"]
        shares = f"{low:.2%} to {high:.2%}", f"{found['top5']:.2%}", f"{found['f1']:.2%}"
        table.add_row(title, f"{found['top1']:.2%}", *shares)
    console = Console()
    console.print(table)
    fitted = f"{facts['train_images']:,} images of {facts['data']} {facts['train_split']}"
    line = (
        f"{facts['features']:,} features of {fitted}, judged by {facts['images']:,} of "
        f"{facts['split']}"
    )
    console.print(printable(line), soft_wrap=True, highlight=False, markup=False)


def _suspects(train: Features, source: Source, strength: float, path: Path) -> str:
    found = suspects(held_out_scores(train, strength))
    write_suspects(path, found, source.class_names, lambda row: source.place(train.places[row]))
    print(f"{len(found):,} labels are doubtful, the most doubtful first: {printable(path)}")
    return str(path)
