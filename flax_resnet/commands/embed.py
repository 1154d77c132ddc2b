"""Turn pictures into features: `python -m flax_resnet embed runs/photos holiday/ --out f.npy`."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flax_resnet.commands.predict import add_picture_arguments, tell_error
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError

if TYPE_CHECKING:
    from flax_resnet.inference.stream import Output

HELP = "write what a stage of a network makes of pictures, averaged over each: .npy or .parquet"
EXAMPLE = "embed resnet50.a1_in1k holiday/ --out features.npy"
FORMATS = (".npy", ".parquet")
Write = Callable[[Path, list["Output"]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_picture_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="FILE.npy or FILE.parquet")
    parser.add_argument("--stage", help="stem, layer1 ... (default: the last)")


def run(args: argparse.Namespace) -> Done:
    """Write a row of features a picture; the status is 1 if some could not be read, else 0."""
    from flax_resnet.inference.inputs import find_images
    from flax_resnet.inference.predictor import open_predictor
    from flax_resnet.inference.stream import outputs

    if args.out.suffix not in FORMATS:
        raise InputError(
            f"--out is {args.out}; expected a name that ends in {' or '.join(FORMATS)}"
        )
    write = _write_npy if args.out.suffix == ".npy" else _parquet_writer()
    files = find_images(args.images, sys.stdin)
    predictor = open_predictor(args.run, args.step, not args.raw, args.batch_size)
    apply = functools.partial(predictor.features, stage=args.stage)
    found: list[Output] = []
    failed = 0
    for output in outputs(predictor, files, apply):
        failed += tell_error(output)
        if output.error is None:
            found.append(output)
    if not found:
        raise InputError("none of the pictures can be read, so there are no features to write")
    try:
        write(args.out, found)
    except OSError as error:
        raise InputError(f"{args.out} cannot be written to: {error.strerror or error}") from None
    size = np.asarray(found[0].values).size
    print(f"{len(found)} pictures, {size} features each, in {args.out}")
    facts = {"pictures": len(found), "unread": failed, "features": size, "out": str(args.out)}
    return Done(facts, bool(failed))


def _write_npy(path: Path, found: list[Output]) -> None:
    """Write the features, and beside them the files, a line each, in the same order."""
    np.save(path, np.stack([np.asarray(output.values) for output in found]))
    names = "".join(f"{output.file}\n" for output in found)
    path.with_suffix(".files.txt").write_text(names, "utf-8", "surrogateescape")


def _parquet_writer() -> Write:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(
            "Parquet needs pyarrow: pip install 'flax-resnet[parquet]', or take a name in .npy"
        ) from None

    def write(path: Path, found: list[Output]) -> None:
        features = pa.array([output.values for output in found], pa.list_(pa.float32()))
        files = pa.array([output.file for output in found])
        pq.write_table(pa.table({"file": files, "features": features}), path)

    return write
