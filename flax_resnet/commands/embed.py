"""Write features of images: `python -m flax_resnet embed runs/photos holiday/ --out f.npy`."""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from flax_resnet.commands.networks import named_predictor
from flax_resnet.commands.predict import add_image_arguments, print_error
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, install_extra, printable
from flax_resnet.files import replace_text, replacing, writable
from flax_resnet.inference.inputs import find_images
from flax_resnet.inference.stream import Output, outputs

EXAMPLE = "embed resnet50.a1_in1k holiday/ --out features.npy"
FORMATS = (".npy", ".parquet")
_NAMES = ".files.txt"
Write = Callable[[Path, list[Output]], dict[str, str]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_image_arguments(parser)
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        help="FILE.npy, with names in FILE.files.txt, or FILE.parquet",
    )
    parser.add_argument("--stage", help="stem, layer1, ... (default: the last)")


def run(args: argparse.Namespace) -> Done:
    """Write one row of features per image; the status is 1 if some could not be read."""
    if args.out.suffix not in FORMATS:
        raise InputError(
            f"--out is {args.out}; expected a name that ends in {' or '.join(FORMATS)}"
        )
    write = _write_npy if args.out.suffix == ".npy" else _parquet_writer()
    files = find_images(args.images, sys.stdin)
    predictor = named_predictor(args)
    apply = functools.partial(predictor.features, stage=args.stage)
    found: list[Output] = []
    failed = 0
    for output in outputs(predictor, files, apply):
        failed += print_error(output)
        if output.error is None:
            found.append(output)
    if not found:
        raise InputError("none of the images can be read, so there are no features to write")
    with writable(args.out):
        written = write(args.out, found)
    size = np.asarray(found[0].values).size
    print(f"{len(found)} images, {size} features each, in {printable(args.out)}")
    if "files" in written:
        print(
            f"names of the images, one a line in the same order, in {printable(written['files'])}"
        )
    facts = {"images": len(found), "unread": failed, "features": size, **written}
    return Done(facts, bool(failed))


def _write_npy(path: Path, found: list[Output]) -> dict[str, str]:
    """Write the features, and beside them the names of the files, in the same order."""
    with replacing(path) as part:
        np.save(part, np.stack([np.asarray(output.values) for output in found]))
    names = "".join(f"{output.file}\n" for output in found)
    replace_text(path.with_suffix(_NAMES), names)
    return {"out": str(path), "files": str(path.with_suffix(_NAMES))}


def _parquet_writer() -> Write:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise InputError(
            f"Parquet needs pyarrow ({install_extra('parquet')}); or write a .npy file"
        ) from None

    def write(path: Path, found: list[Output]) -> dict[str, str]:
        features = pa.array([output.values for output in found], pa.list_(pa.float32()))
        files = pa.array([output.file for output in found])
        with replacing(path) as part:
            pq.write_table(pa.table({"file": files, "features": features}), part)
        return {"out": str(path)}

    return write
