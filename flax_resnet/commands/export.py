"""Write a network for other programs: `python -m flax_resnet export runs/photos`."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, cast

from flax_resnet.commands.networks import add_network_arguments, add_train_size
from flax_resnet.commands.reporting import Done
from flax_resnet.data.sources.source import has_several_labels
from flax_resnet.errors import InputError, printable, require_known
from flax_resnet.export.formats import write_hub, write_savedmodel, write_stablehlo
from flax_resnet.export.int8 import write_int8
from flax_resnet.export.network import Exported, as_function
from flax_resnet.export.onnx import write_onnx
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.inference.scores import open_labeled
from flax_resnet.models import Network
from flax_resnet.training.networks import find_network
from flax_resnet.training.runs import default_split, replace_data

EXAMPLE = "export runs/photos --format stablehlo --preprocess"
# Each format with its path in a run's folder; int8 is `network.int8.onnx`.
_PLACES = {
    "stablehlo": "network.stablehlo",
    "onnx": "network.onnx",
    "savedmodel": "savedmodel",
    "safetensors": "hub",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_network_arguments(parser)
    parser.add_argument(
        "--format", default="stablehlo", help="stablehlo | onnx | savedmodel | safetensors"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="default: named after the format, in the run's folder or the current one",
    )
    add_train_size(parser)
    parser.add_argument(
        "--preprocess",
        action="store_true",
        help="include the normalization: the input is uint8 images",
    )
    parser.add_argument(
        "--no-fold", action="store_true", help="do not fold batch norms into convolutions"
    )
    parser.add_argument(
        "--int8",
        nargs="?",
        const="",
        metavar="DATA",
        help="ONNX in 8-bit integers: measure the ranges on the training split of DATA, such as "
        "folder:PATH, and print the accuracy before and after on its test split (default: the "
        "run's own data)",
    )


def run(args: argparse.Namespace) -> Done:
    """Write the file or folder and print what is in it."""
    require_known("--format", args.format, _PLACES)
    if args.format == "safetensors" and (args.preprocess or args.no_fold):
        raise InputError("safetensors contain only weights: omit --preprocess and --no-fold")
    if args.int8 is not None and args.format != "onnx":
        raise InputError(f"--int8 is for --format onnx, and --format is {args.format}: omit it")
    origin = find_network(args.run)
    if args.int8 == "" and origin.config is None:
        raise InputError(f"{args.run} is not a run, so it has no data of its own: --int8 DATA")
    home = Path() if origin.config is None else Path(args.run)
    predictor = open_predictor(
        args.run, args.step, not args.raw, key=args.key, train_size=args.train_size
    )
    place, write = _PLACES[args.format], _function
    if args.int8 is not None:
        place, write = "network.int8.onnx", _int8
    elif args.format == "safetensors":
        write = _weights
    path = args.out or home / place
    return Done({"path": str(path), "format": args.format, **write(args, predictor, path)})


def _function(args: argparse.Namespace, predictor: Predictor, path: Path) -> dict[str, Any]:
    writers = {"stablehlo": write_stablehlo, "onnx": write_onnx, "savedmodel": write_savedmodel}
    network = as_function(predictor, not args.no_fold, args.preprocess)
    difference = writers[args.format](network, path)
    _print_interface(network, path)
    print(f"read back: logits differ by at most {difference:.0e} of the largest")
    return {"input": [network.dtype, "b", *network.image_shape], "difference": difference}


def _int8(args: argparse.Namespace, predictor: Predictor, path: Path) -> dict[str, Any]:
    network, source = as_function(predictor, not args.no_fold, args.preprocess), args.int8 or None
    data, model = replace_data(predictor.data, source=source), cast(Network, predictor.model)
    names = find_network(args.run).description.names_of(model.num_classes)
    judged = default_split(data)
    calibration, evaluation = (
        open_labeled(data, split, names, model, args.run) for split in (data.train_split, judged)
    )
    if has_several_labels(evaluation):
        raise InputError(
            f"{evaluation.name} has images with several labels; expected one class for each image"
        )
    found = write_int8(network, path, calibration, evaluation, data)
    _print_interface(network, path)
    print(
        f"{data.source} {judged}, {found.images:,} images: accuracy {found.before:.2%} in float32, "
        f"{found.after:.2%} in int8; the same class for {found.same:.2%}\n"
        f"{found.bytes_before / 1e6:.1f} MB in float32, {found.bytes_after / 1e6:.1f} MB in int8"
    )
    return {
        "input": [network.dtype, "b", *network.image_shape],
        "data": data.source,
        "split": judged,
        **dataclasses.asdict(found),
    }


def _print_interface(network: Exported, path: Path) -> None:
    shape, logits = (
        ", ".join(map(str, shape)) for shape in (network.image_shape, network.output_shape)
    )
    kind = "images" if network.preprocess else "normalized images"
    print(
        f"{printable(path)}\n"
        f"input: {network.dtype} (b, {shape}), {kind}\n"
        f"output: float32 (b, {logits}), logits\n"
        f"classes, sizes, mean and deviation: {printable(path)}.json"
    )


def _weights(args: argparse.Namespace, predictor: Predictor, path: Path) -> dict[str, Any]:
    known = find_network(args.run).description
    difference = write_hub(as_function(predictor, fold=False), path, known)
    print(f"{printable(path)}: model.safetensors, config.json; load_pretrained and timm read it")
    return {"difference": difference}
