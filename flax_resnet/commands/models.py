"""List the networks by name: `python -m flax_resnet models 'resnet50*'`."""

import argparse
import csv
import fnmatch
import shutil
import textwrap
from collections import defaultdict
from pathlib import Path

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, expected_names

EXAMPLE = "models 'resnet50*'"
_ROW = "{:26} {:>13} {:>16} {:>6} {:>7}  "
# Read here because the packages with these tables load jax and flax, which listing does not need.
_PACKAGE = Path(__file__).parents[1]
COUNTS = _PACKAGE / "models" / "counts.tsv"  # written by tools/counts.py
_PUBLISHED = _PACKAGE / "weights" / "published.tsv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="names to list, such as 'resnet50*' (default: all)"
    )


def run(args: argparse.Namespace) -> Done:
    """Print a line for each network whose name matches."""
    networks = {row["name"]: row for row in _rows(COUNTS)}
    names = fnmatch.filter(networks, args.pattern)
    if not names:
        raise InputError(
            f"no network matches {args.pattern!r}: {expected_names(args.pattern, networks)}"
        )
    weights = _published()
    print(_ROW.format("network", "parameters", "MACs", "pixels", "classes") + "weights:top-1")
    facts = []
    for name in names:
        counts = {key: int(value) for key, value in networks[name].items() if key != "name"}
        facts.append({"name": name, **counts, "weights": weights[name]})
        line = _ROW.format(
            name,
            f"{counts['parameters']:,}",
            f"{counts['macs']:,}",
            counts["image_size"],
            counts["classes"],
        )
        # As wide as the terminal, but with room for one tag.
        width = max(shutil.get_terminal_size().columns, len(line) + 40)
        text = textwrap.fill(
            ", ".join(weights[name]), width, initial_indent=line, subsequent_indent=" " * len(line)
        )
        print(text or line.rstrip())
    return Done({"networks": facts})


def _published() -> defaultdict[str, list[str]]:
    """Return each network's tags of published weights, with their top-1 where it is known."""
    weights = defaultdict(list)
    for row in sorted(_rows(_PUBLISHED), key=lambda row: row["name"]):
        architecture, _, tag = row["name"].partition(".")
        weights[architecture].append(f"{tag}:{float(row['top1']):.1f}" if row["top1"] else tag)
    return weights


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t"))
