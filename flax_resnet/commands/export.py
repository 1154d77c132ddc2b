"""Write a network for other programs: `python -m flax_resnet export runs/photos`."""

import argparse
from pathlib import Path
from typing import Any

from flax_resnet.commands.networks import add_network_arguments, add_train_size
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, printable, require_known
from flax_resnet.export.formats import write_hub, write_savedmodel, write_stablehlo
from flax_resnet.export.network import as_function
from flax_resnet.export.onnx import write_onnx
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.training.networks import find_network

EXAMPLE = "export runs/photos --format stablehlo --preprocess"
# Each format with its path in a run's folder.
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


def run(args: argparse.Namespace) -> Done:
    """Write the file or folder and print what is in it."""
    require_known("--format", args.format, _PLACES)
    if args.format == "safetensors" and (args.preprocess or args.no_fold):
        raise InputError("safetensors contain only weights: omit --preprocess and --no-fold")
    origin = find_network(args.run)
    home = Path() if origin.config is None else Path(args.run)
    predictor = open_predictor(
        args.run, args.step, not args.raw, key=args.key, train_size=args.train_size
    )
    path = args.out or home / _PLACES[args.format]
    write = _weights if args.format == "safetensors" else _function
    return Done({"path": str(path), "format": args.format, **write(args, predictor, path)})


def _function(args: argparse.Namespace, predictor: Predictor, path: Path) -> dict[str, Any]:
    writers = {"stablehlo": write_stablehlo, "onnx": write_onnx, "savedmodel": write_savedmodel}
    network = as_function(predictor, not args.no_fold, args.preprocess)
    difference = writers[args.format](network, path)
    shape, logits = (
        ", ".join(map(str, shape)) for shape in (network.image_shape, network.output_shape)
    )
    kind = "images" if network.preprocess else "normalized images"
    print(
        f"{printable(path)}\n"
        f"input: {network.dtype} (b, {shape}), {kind}\n"
        f"output: float32 (b, {logits}), logits\n"
        f"classes, sizes, mean and deviation: {printable(path)}.json\n"
        f"read back: logits differ by at most {difference:.0e} of the largest"
    )
    return {"input": [network.dtype, "b", *network.image_shape], "difference": difference}


def _weights(args: argparse.Namespace, predictor: Predictor, folder: Path) -> dict[str, Any]:
    known = find_network(args.run).description
    difference = write_hub(as_function(predictor, fold=False), folder, known)
    print(f"{printable(folder)}: model.safetensors, config.json; load_pretrained and timm read it")
    return {"difference": difference}
