"""Classify images: `python -m flax_resnet predict runs/photos holiday/`."""

import argparse
import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from flax_resnet.commands.networks import (
    add_network_arguments,
    add_threshold,
    add_train_size,
    named_predictor,
)
from flax_resnet.commands.reporting import Done, progress_report
from flax_resnet.data.sources.csv import join_labels
from flax_resnet.errors import printable
from flax_resnet.files import replacing, writable
from flax_resnet.inference.inputs import find_images
from flax_resnet.inference.predictor import Predictor
from flax_resnet.inference.shards import Job, write_shards
from flax_resnet.inference.stream import (
    TOP,
    Output,
    TopClasses,
    output_to_json,
    outputs,
    top_classes,
)
from flax_resnet.training.networks import find_network

EXAMPLE = "predict runs/photos holiday/ --top 3 --csv found.csv"
Write = Callable[[Output, TopClasses], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_image_arguments(parser)
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="classes per image (default: 5; all above the threshold where it can have several)",
    )
    add_threshold(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", metavar="FILE", help="write a CSV table; - is standard output")
    form.add_argument("--jsonl", metavar="FILE", help="write one JSON object per line; - likewise")
    form.add_argument(
        "--shards",
        type=Path,
        metavar="FOLDER",
        help="write files of JSON lines; running the command again writes only missing files",
    )
    parser.add_argument(
        "--shard-size", type=int, default=5000, metavar="N", help="images per file (default: 5000)"
    )
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="for shards on a CPU (default: 1)"
    )


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that name a network and images."""
    add_network_arguments(parser)
    parser.add_argument(
        "images", nargs="+", help="files, folders, patterns; - reads paths from standard input"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images at a time (default: 32)"
    )
    add_train_size(parser)


def run(args: argparse.Namespace) -> Done:
    """Write one row per image; the status is 1 if some could not be read."""
    files = find_images(args.images, sys.stdin)
    if args.shards is not None:
        return _shards(args, list(files))
    predictor = named_predictor(args)
    top, least = _top(args), predictor.threshold
    told, failed = [], 0
    with _writer(args, predictor) as write:
        for output in outputs(predictor, files, predictor.probabilities):
            failed += print_error(output)
            found = top_classes(output.values, predictor.class_names, top, least)
            write(output, found)
            if args.json:
                told.append(output_to_json(output, found))
    return Done({"images": told}, bool(failed))


def _top(args: argparse.Namespace) -> int | None:
    return None if args.top is None else max(1, args.top)


def _shards(args: argparse.Namespace, files: list[str]) -> Done:
    top = _top(args)
    if top is None and find_network(args.run).task == "classification":
        top = TOP
    job = Job(
        args.run,
        args.step,
        not args.raw,
        args.batch_size,
        top,
        key=args.key,
        train_size=args.train_size,
        threshold=args.threshold,
    )
    with progress_report() as report:
        failed = write_shards(
            job,
            files,
            args.shards,
            args.shard_size,
            args.processes,
            lambda done, total: report("files of predictions", done, total),
        )
    unread = f", {failed} of which cannot be read" if failed else ""
    print(f"{len(files)} images{unread}: {printable(args.shards)}")
    facts = {"images": len(files), "unread": failed, "shards": str(args.shards)}
    return Done(facts, bool(failed))


def print_error(output: Output) -> bool:
    """Print the error of a file, if it has one, and return whether it has."""
    if output.error is not None:
        print(printable(f"error: {output.file}: {output.error}"), file=sys.stderr)
    return output.error is not None


@contextlib.contextmanager
def written(path: str) -> Iterator[TextIO]:
    """Open a file that appears, complete, at the end of the block; `-` is standard output."""
    if path == "-":
        yield sys.stdout
        return
    with (
        writable(path),
        replacing(path) as part,
        part.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        yield file


@contextlib.contextmanager
def _writer(args: argparse.Namespace, predictor: Predictor) -> Iterator[Write]:
    if args.csv is not None:
        with written(args.csv) as file:
            top = min(_top(args) or TOP, predictor.model.num_classes)
            yield _csv_labels(file) if predictor.threshold else _csv_rows(file, top)
    elif args.jsonl is not None:
        with written(args.jsonl) as file:
            yield _json_lines(file)
    else:
        yield _print


def _csv_rows(file: TextIO, top: int) -> Write:
    table = csv.writer(file, lineterminator="\n")
    columns = [f"{what}_{at}" for at in range(1, top + 1) for what in ("class", "score")]
    table.writerow(["file", *columns, "error"])

    def write(output: Output, found: TopClasses) -> None:
        cells = [cell for name, score in found for cell in (name, f"{score:.6f}")]
        cells += [""] * (2 * top - len(cells))
        table.writerow([output.file, *cells, output.error or ""])

    return write


def _csv_labels(file: TextIO) -> Write:
    """Return the writer of a table that can be trained on, with all classes in one column."""
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["file", "labels", "scores", "error"])

    def write(output: Output, found: TopClasses) -> None:
        names, scores = zip(*found, strict=True) if found else ((), ())
        shown = join_labels(f"{score:.6f}" for score in scores)
        table.writerow([output.file, join_labels(names), shown, output.error or ""])

    return write


def _json_lines(file: TextIO) -> Write:
    return lambda output, found: print(json.dumps(output_to_json(output, found)), file=file)


def _print(output: Output, found: TopClasses) -> None:
    if output.error is None:
        print(printable(output.file))
        for name, score in found:
            print(f"  {score:7.2%}  {printable(name)}", flush=True)
        if not found:
            print("  no class reaches the threshold", flush=True)
