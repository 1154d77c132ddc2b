"""List networks, or published weights: `python -m flax_resnet models --weights resnet50`."""

import argparse
import csv
import fnmatch
import shutil
import textwrap
from collections import defaultdict
from pathlib import Path
from typing import Any

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, expected_names

EXAMPLE = "models 'resnet50*'"
_ROW = "{:26} {:>13} {:>16} {:>6} {:>7}  "
# Accuracies in percent, as heading and column of the table of accuracies.
_ACCURACIES = {
    "top-1": "top1",
    "top-5": "top5",
    "ReaL": "real",
    "V2": "v2",
    "A": "a",
    "R": "r",
    "Sketch": "sketch",
}
_WEIGHTS_ROW = "{:47} {:>7} {:>7} {:>6}" + " {:>6}" * len(_ACCURACIES) + "  {:11} {}"
# Read here because the packages with these tables load jax and flax, which listing does not need.
_PACKAGE = Path(__file__).parents[1]
COUNTS = _PACKAGE / "models" / "counts.tsv"  # written by tools/counts.py
_PUBLISHED = _PACKAGE / "weights" / "published.tsv"
_MEASURED = _PACKAGE / "weights" / "accuracies.tsv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "pattern", nargs="?", default="*", help="names to list, such as 'resnet50*' (default: all)"
    )
    parser.add_argument(
        "--weights",
        action="store_true",
        help="list published weights, such as 'resnet50.a*': size, accuracies, origin, license",
    )


def run(args: argparse.Namespace) -> Done:
    """Print a line for each network, or all weights, whose name matches."""
    return _list_weights(args.pattern) if args.weights else _list_networks(args.pattern)


def _list_networks(pattern: str) -> Done:
    networks = {row["name"]: row for row in _rows(COUNTS)}
    names = fnmatch.filter(networks, pattern)
    if not names:
        raise _nothing(pattern, list(networks))
    weights = _tags()
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


def _nothing(pattern: str, networks: list[str]) -> InputError:
    weights = len(_matching_weights(pattern))
    if weights:
        return InputError(
            f"{pattern!r} is a name of weights ({weights} match), not of a network: add --weights"
        )
    return InputError(f"no network matches {pattern!r}: {expected_names(pattern, networks)}")


def _list_weights(pattern: str) -> Done:
    matching = _matching_weights(pattern)
    if not matching:
        names = [row["name"] for row in _rows(_PUBLISHED)]
        raise InputError(f"no weights match {pattern!r}: {expected_names(pattern, names)}")
    measured, networks = _measured(), {row["name"]: row for row in _rows(COUNTS)}
    print(
        _WEIGHTS_ROW.format(
            "weights", "params", "GMACs", "pixels", *_ACCURACIES, "origin", "license"
        )
    )
    facts = []
    for row in matching:
        accuracies = [measured[key] for key in _sizes(row) if key in measured]
        counts = networks[row["name"].partition(".")[0]]
        facts.append(_facts(row, counts, accuracies))
        for found in accuracies or [{"image_size": _sizes(row)[-1][1]}]:
            print(
                _WEIGHTS_ROW.format(
                    row["name"],
                    f"{int(counts['parameters']) / 1e6:.1f}",
                    f"{int(counts['macs']) / 1e9:.1f}",
                    found["image_size"],
                    *(_percent(found.get(key, "")) for key in _ACCURACIES.values()),
                    row["origin"],
                    row["license"] or "not stated",
                )
            )
    print(
        "Parameters (millions) and GMACs are those that `models` lists. Accuracies in %, by timm; "
        "the larger size is used, unless --train-size is given."
    )
    return Done({"weights": facts})


def _facts(
    row: dict[str, str], counts: dict[str, str], accuracies: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "name": row["name"],
        "network": {key: int(value) for key, value in counts.items() if key != "name"},
        "num_classes": int(row["num_classes"]),
        "test_size": int(_sizes(row)[-1][1]),
        "origin": row["origin"],
        "license": row["license"] or None,
        "accuracies": [
            {
                "image_size": int(found["image_size"]),
                **{key: float(found[key]) if found[key] else None for key in _ACCURACIES.values()},
            }
            for found in accuracies
        ],
    }


def _percent(text: str) -> str:
    return f"{float(text):.1f}" if text else "-"


def _matching_weights(pattern: str) -> list[dict[str, str]]:
    """Return the rows of the weights whose name, or whose network's name, matches."""
    rows = sorted(_rows(_PUBLISHED), key=lambda row: row["name"])
    names = [(row["name"], row["name"].partition(".")[0]) for row in rows]
    return [row for row, pair in zip(rows, names, strict=True) if fnmatch.filter(pair, pattern)]


def _tags() -> defaultdict[str, list[str]]:
    """Return each network's tags of published weights, with their top-1 where it is known."""
    measured, tags = _measured(), defaultdict(list)
    for row in _matching_weights("*"):
        architecture, _, tag = row["name"].partition(".")
        found = measured.get(_sizes(row)[-1])
        tags[architecture].append(f"{tag}:{_percent(found['top1'])}" if found else tag)
    return tags


def _measured() -> dict[tuple[str, str], dict[str, str]]:
    """Return the accuracies by name and image size; names and sizes are unique."""
    return {(row["name"], row["image_size"]): row for row in _rows(_MEASURED)}


def _sizes(row: dict[str, str]) -> list[tuple[str, str]]:
    """Return the name and the image size of training, and the same with the test size if any."""
    sizes = dict.fromkeys([row["image_size"], row["test_image_size"] or row["image_size"]])
    return [(row["name"], size) for size in sizes]


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t"))
