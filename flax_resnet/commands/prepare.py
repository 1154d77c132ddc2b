"""Prepare a data set ahead of training: `python -m flax_resnet prepare digits`."""

import argparse
from pathlib import Path

from flax_resnet.commands.reporting import Done, progress_report
from flax_resnet.data.batches.workers import available_cores
from flax_resnet.data.prepare.imagenet import pack_imagenet
from flax_resnet.data.sources.digits import FlaxResnetDigits
from flax_resnet.data.sources.tfds import find_builder, prepare
from flax_resnet.errors import InputError

EXAMPLE = "prepare imagenet --train ILSVRC2012_img_train.tar --val ILSVRC2012_img_val.tar"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("what", help="imagenet, digits or tfds:NAME[/config][:version]")
    parser.add_argument("--data-dir", help="folder of TFDS data sets (default: TFDS's own)")
    group = parser.add_argument_group("imagenet")
    group.add_argument("--train", type=Path, help="path of ILSVRC2012_img_train.tar")
    group.add_argument("--val", type=Path, help="path of ILSVRC2012_img_val.tar")
    group.add_argument(
        "--resize",
        type=int,
        metavar="SHORT_SIDE",
        help="shrink images to this shorter side, in pixels",
    )
    group.add_argument("--workers", type=int, metavar="N", help="processes (default: one per core)")


def run(args: argparse.Namespace) -> Done:
    """Prepare the data set and print where it is stored."""
    if args.what == "imagenet":
        with progress_report() as report:
            folder = pack_imagenet(
                args.train,
                args.val,
                args.data_dir,
                resize_to=args.resize,
                workers=args.workers or available_cores(),
                report=report,
            )
        print(f"tfds:imagenet2012 is stored in {folder}")
        return Done({"data": "tfds:imagenet2012", "folder": str(folder)})
    if args.what != "digits" and not args.what.startswith("tfds:"):
        raise InputError(
            f"{args.what!r} cannot be prepared; expected imagenet, digits or tfds:NAME. Images in "
            "folders need no preparation: config.data.source=folder:PATH"
        )
    if args.what == "digits":
        builder = FlaxResnetDigits(data_dir=args.data_dir)
    else:
        builder = find_builder(args.what.removeprefix("tfds:"), args.data_dir)
    prepare(builder, args.what)
    print(f"{args.what} is stored in {builder.data_dir}")
    return Done({"data": args.what, "folder": str(builder.data_dir)})
