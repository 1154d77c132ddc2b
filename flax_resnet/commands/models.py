"""List the networks by name: `python -m flax_resnet models 'resnet50*'`."""

import argparse
import shutil
import textwrap
from collections import defaultdict

from flax_resnet.commands.reporting import Done

HELP = "list networks: parameters, multiply-adds, input size, published weights"
EXAMPLE = "models 'resnet50*'"
_ROW = "{:26} {:>13} {:>16} {:>6} {:>7}  "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="names to list, such as 'resnet50*' (default: all)"
    )


def run(args: argparse.Namespace) -> Done:
    """Print a line for each network whose name matches, as soon as it is counted."""
    from flax_resnet.errors import InputError, expected_names
    from flax_resnet.models import count_both, create_model, list_models
    from flax_resnet.models.variants import VARIANTS

    names = list_models(args.pattern)
    if not names:
        raise InputError(
            f"no network matches {args.pattern!r}: {expected_names(args.pattern, VARIANTS)}"
        )
    weights = _published()
    print(_ROW.format("network", "parameters", "MACs", "pixels", "classes") + "weights:top-1")
    facts = []
    for name in names:
        model = create_model(name)
        parameters, macs = count_both(model)
        line = _ROW.format(
            name, f"{parameters:,}", f"{macs:,}", model.image_size, model.num_classes
        )
        facts.append(
            dict(
                name=name,
                parameters=parameters,
                macs=macs,
                image_size=model.image_size,
                classes=model.num_classes,
                weights=weights[name],
            )
        )
        # Whole terminals wide, but never so narrow that a word has no room.
        width = max(shutil.get_terminal_size().columns, len(line) + 40)
        text = textwrap.fill(
            ", ".join(weights[name]), width, initial_indent=line, subsequent_indent=" " * len(line)
        )
        print(text or line.rstrip(), flush=True)
    return Done({"networks": facts})


def _published() -> defaultdict[str, list[str]]:
    """Return by network the tags of its weights, with their published top-1 where it is known."""
    from flax_resnet.weights import find_published, list_pretrained

    weights = defaultdict(list)
    for name in list_pretrained():
        row = find_published(name)
        top1 = f":{row.top1:.1f}" if row.top1 is not None else ""
        weights[row.architecture].append(row.tag + top1)
    return weights
