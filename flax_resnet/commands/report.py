"""Write a page about runs: `python -m flax_resnet report runs/digits`."""

import argparse
import sys
from pathlib import Path

import jax

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, printable
from flax_resnet.report.page import write_report

EXAMPLE = "report runs/digits runs/digits2 --out compared.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", nargs="+", type=Path, help="folders of runs, such as runs/digits")
    parser.add_argument(
        "--out", type=Path, help="file (default: report.html in the first run's folder)"
    )
    parser.add_argument(
        "--suspects",
        type=Path,
        metavar="FILE",
        help="write a CSV table of the images whose labels are most likely wrong, and show them on "
        "the page; they are those of the test split, or of the validation split if there is none",
    )


def run(args: argparse.Namespace) -> Done:
    """Write the page and print its path."""
    if len(args.run) > 1 and args.out is None:
        raise InputError("a page about several runs needs a path: add --out FILE.html")
    page = write_report(args.run, args.out, suspected=args.suspects)
    print(f"report: {printable(page)}")
    if args.suspects is None:
        return Done({"report": str(page)})
    print(f"labels most likely wrong: {printable(args.suspects)}")
    return Done({"report": str(page), "suspects": str(args.suspects)})


def report_when_done(workdir: Path, command: str) -> None:
    """Write the page of a finished run; an error in it becomes a warning."""
    if jax.process_count() > 1:  # One of several processes cannot evaluate alone.
        return
    try:
        print(f"report: {printable(write_report([workdir], command=command))}")
    except Exception as error:
        print(printable(f"warning: no report was written: {error}"), file=sys.stderr)
