"""Train one recipe with many settings: `python -m flax_resnet sweep digits --grid lr=0.1,0.2`."""

import argparse
import csv
import io
import itertools
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from flax_resnet.commands.flags import config_name
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, printable, require_known, split_assignment
from flax_resnet.files import replace_text
from flax_resnet.interrupts import EXIT_STOPPED
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.logging.writers import read_rows
from flax_resnet.training.parsing import parse
from flax_resnet.training.recipes import load_recipe, recipe_file

EXAMPLE = "sweep digits --grid lr=0.1,0.2 --seeds 3 --config.epochs=5"
_SHORT = {"lr": "schedule.learning_rate"}

Settings = dict[str, str]


class Outcome(NamedTuple):
    """The results of one combination of settings."""

    settings: Settings
    figures: list[float]
    """The best evaluation of each seed whose run succeeded."""
    failed: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recipe", help="a recipe's file or name")
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="values of a setting, given by its key or the end of the key"
        " (lr is the learning rate); may be repeated",
    )
    parser.add_argument(
        "--seeds", type=int, default=1, metavar="N", help="runs of each combination (default: 1)"
    )
    parser.add_argument("--out", type=Path, help="folder of the runs (default: runs/sweep-RECIPE)")
    # All other words, such as --config.epochs=5, are passed to every run.
    parser.set_defaults(flags=[])


def run(args: argparse.Namespace) -> Done:
    """Train the missing runs one after the other; the status is 1 if some failed."""
    recipe = recipe_file(args.recipe)
    config = load_recipe(recipe)
    if args.seeds < 1:
        raise InputError(f"--seeds is {args.seeds}; expected at least 1")
    grid = dict(_axis(text, _keys(config.to_dict())) for text in args.grid)
    figure = TASKS[parse(config).task].ranked_by
    out = args.out or Path("runs") / f"sweep-{config_name(recipe)}"
    console = Console(highlight=False, soft_wrap=True, markup=False)
    # Each run prints in its own process.
    flags = [*args.flags, *(["--quiet"] if args.quiet or args.json else [])]
    outcomes = []
    for values in itertools.product(*grid.values()):
        settings = dict(zip(grid, values, strict=True))
        found = []
        for seed in range(config.seed, config.seed + args.seeds):
            console.print(f"== {_words(settings)} seed {seed}")
            found.append(_train(recipe, settings, seed, out, flags, figure))
        figures = [value for value in found if value is not None]
        outcomes.append(Outcome(settings, figures, len(found) - len(figures)))
    # The best first, failed ones last.
    outcomes.sort(key=lambda each: -statistics.mean(each.figures or [-1.0]))
    console.print(_table(outcomes, list(grid), figure))
    replace_text(out / "sweep.csv", _csv(outcomes, list(grid), figure))
    console.print(f"runs and sweep.csv: {out}")
    facts = {"runs": str(out), "figure": figure, "best": [each._asdict() for each in outcomes]}
    return Done(facts, int(any(each.failed for each in outcomes)))


def _keys(section: dict[str, object], prefix: str = "") -> list[str]:
    """Return the keys of all settings, joined by dots."""
    found = []
    for key, value in section.items():
        inner = _keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
        found += inner
    return found


def _axis(text: str, keys: list[str]) -> tuple[str, list[str]]:
    """Return the key and the values of `KEY=V1,V2`."""
    form = "KEY=V1,V2, such as lr=0.1,0.2"
    name, values = split_assignment(text, "--grid", form)
    if not values:
        raise InputError(f"--grid is {text!r}; expected {form}")
    name = _SHORT.get(name, name.removeprefix("config."))
    fitting = [key for key in keys if key == name or key.endswith(f".{name}")]
    if len(fitting) > 1 and name not in fitting:
        raise InputError(f"--grid {name} may be {' or '.join(fitting)}; write one of them")
    if not fitting:
        require_known("a key of --grid", name, keys)
    key = name if name in fitting else fitting[0]
    if key == "seed":
        raise InputError("--grid sets the seed; use --seeds N instead")
    return key, values.split(",")


def _train(
    recipe: str, settings: Settings, seed: int, out: Path, flags: list[str], figure: str
) -> float | None:
    """Train in a separate process and return the best evaluation; None if it failed."""
    name = re.sub(r"[^\w.=]+", "-", " ".join([_words(settings), f"seed={seed}"])).strip("-")
    changes = [f"--config.{key}={value}" for key, value in (settings | {"seed": str(seed)}).items()]
    command = [sys.executable, "-m", "flax_resnet", "train", "--config", recipe]
    command += [*flags, *changes, "--workdir", str(out / name), "--noreport"]
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.terminate()  # It saves; a terminal has told it as well.
        status = process.wait()
    if status == EXIT_STOPPED:
        raise SystemExit(status)
    if status:
        return None
    rows = read_rows(out / name)
    return max((row[figure] for row in rows if row["kind"] == "eval"), default=None)


def _words(settings: Settings) -> str:
    return " ".join(f"{key}={value}" for key, value in settings.items())


def _cells(outcome: Outcome) -> list[str]:
    """Return the settings, the mean and deviation over seeds, and the numbers of runs."""
    figures = outcome.figures
    mean = f"{statistics.mean(figures):.4f}" if figures else "-"
    deviation = f"{statistics.stdev(figures):.4f}" if len(figures) > 1 else "-"
    return [*outcome.settings.values(), mean, deviation, str(len(figures)), str(outcome.failed)]


def _titles(keys: list[str], figure: str) -> list[str]:
    return [*keys, figure, "deviation", "seeds", "failed"]


def _table(outcomes: list[Outcome], keys: list[str], figure: str) -> Table:
    table = Table(title=f"best evaluations: {figure}")
    for title in _titles(keys, figure):
        table.add_column(title, justify="right")
    for outcome in outcomes:
        table.add_row(*(printable(cell) for cell in _cells(outcome)))
    return table


def _csv(outcomes: list[Outcome], keys: list[str], figure: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_titles(keys, figure))
    writer.writerows(_cells(outcome) for outcome in outcomes)
    return text.getvalue()
