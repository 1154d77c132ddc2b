"""Train a network: `python train.py`, or `flax-resnet train` without a checkout."""

import argparse
import json
import math
import shlex
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
from absl import flags

from flax_resnet.commands.flags import config_flag, config_name, run_flags
from flax_resnet.commands.report import report_when_done
from flax_resnet.commands.reporting import Done
from flax_resnet.errors import InputError, printable, require_local
from flax_resnet.files import replace_text, writable
from flax_resnet.report.learning_rates import draw
from flax_resnet.report.page import NAME as REPORT
from flax_resnet.training.checkpoints.store import newest_step
from flax_resnet.training.cluster.joining import PATIENCE, joined
from flax_resnet.training.learning_rates import find_learning_rate
from flax_resnet.training.logging.writers import read_rows
from flax_resnet.training.loop import train
from flax_resnet.training.recipes import recipes
from flax_resnet.training.tracing import parse_steps

EXAMPLE = "train --config digits --config.epochs=5 --workdir runs/short"
# What `--find_lr` writes into the run's folder, beside a plot of the same name.
RATES = Path("learning_rates.json")
# The flags besides --config, with what their help says.
_FLAGS = {
    "workdir": "folder of the run; default: runs/RECIPE",
    "epochs": "short for --config.epochs; a larger number continues a finished run",
    "stop_after": "stop and save after this step",
    "allow_config_change": "continue a run although its settings differ",
    "find_lr": "do not train: plot the loss over a growing learning rate, and suggest one",
    "profile": "FROM:TO, steps to trace with jax's profiler, for TensorBoard and xprof",
    "report": "write report.html at the end; --noreport writes none",
    "coordinator": "host:port of the first of several processes; off: a single process",
    "process_id": "index of this process, from 0",
    "process_count": "number of processes that train together",
    "patience": "seconds without a sign of life after which another process counts as lost",
}
_HELP = """\
flags:
  --config              a recipe: its file, or one of the names below
  --config.KEY=VALUE    change a setting of the recipe, such as --config.model.name=resnet18
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: all words are flags of train.py."""
    rows = "".join(f"  --{name:20}{text}\n" for name, text in _FLAGS.items())
    names = textwrap.fill(f"recipes: {', '.join(recipes())}", 80, break_on_hyphens=False)
    parser.epilog = f"{parser.epilog}\n\n{_HELP}{rows}\n{names}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(flags=[])


def run(args: argparse.Namespace) -> Done:
    """Train; the facts are the metrics of the last evaluation."""
    try:
        main([sys.argv[0], *args.flags])
    except SystemExit as end:
        if end.code:
            raise
    if flags.FLAGS["find_lr"].value:
        return Done(json.loads((_folder() / RATES).read_text("utf-8")))
    rows = [row for row in read_rows(_folder()) if row["kind"] == "eval"]
    return Done({"run": str(_folder()), "evaluation": rows[-1] if rows else None})


def main(words: list[str]) -> None:
    """Train with the flags after the program's name, then raise `SystemExit`."""
    config = config_flag()
    flags.DEFINE_string("workdir", None, _FLAGS["workdir"])
    epochs = flags.DEFINE_float("epochs", None, _FLAGS["epochs"])
    stop_after = flags.DEFINE_integer("stop_after", None, _FLAGS["stop_after"])
    allow = flags.DEFINE_bool("allow_config_change", False, _FLAGS["allow_config_change"])
    find_lr = flags.DEFINE_bool("find_lr", False, _FLAGS["find_lr"])
    profile = flags.DEFINE_string("profile", None, _FLAGS["profile"])
    coordinator = flags.DEFINE_string("coordinator", None, _FLAGS["coordinator"])
    process_id = flags.DEFINE_integer("process_id", None, _FLAGS["process_id"])
    process_count = flags.DEFINE_integer("process_count", None, _FLAGS["process_count"])
    report = flags.DEFINE_bool("report", True, _FLAGS["report"])
    patience = flags.DEFINE_integer("patience", PATIENCE, _FLAGS["patience"])

    def run(arguments: list[str]) -> None:
        del arguments
        cluster = (coordinator.value, process_id.value, process_count.value)
        settings, workdir = config.value, _folder()
        traced = None if profile.value is None else parse_steps(profile.value)
        if epochs.value is not None:
            settings.epochs = epochs.value
        with joined(*cluster, patience=patience.value):
            if find_lr.value:
                _check_alone()
                _find_rate(settings, workdir)
                return
            before = newest_step(workdir)
            trained = train(
                settings,
                workdir,
                stop_after=stop_after.value,
                allow_config_change=allow.value,
                profile=traced,
            )
            if report.value and (trained.step > before or not (workdir / REPORT).exists()):
                report_when_done(workdir, _typed(words))

    run_flags(run, words)


def _check_alone() -> None:
    """Raise `InputError` if a flag is given that says how to train."""
    for name in ("epochs", "stop_after", "allow_config_change", "profile"):
        if flags.FLAGS[name].present:
            raise InputError(f"--{name} does nothing with --find_lr, which does not train: omit it")


def _find_rate(settings: Any, workdir: Path) -> None:
    """Write the plot and the numbers of a range test into a folder, and print what to set."""
    require_local(workdir)
    found = find_learning_rate(settings)
    if jax.process_index() > 0:
        return
    plot, numbers = workdir / RATES.with_suffix(".png"), workdir / RATES
    facts = {
        "plot": str(plot),
        "learning_rate": found.setting,
        "rates": found.rates.tolist(),
        "losses": [loss if math.isfinite(loss) else None for loss in found.losses.tolist()],
    }
    with writable(workdir, "Use another --workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
        draw(found).savefig(plot)
        replace_text(numbers, json.dumps(facts, indent=1) + "\n")
    if found.setting is None:
        print(f"no suggestion: {found.reason}; see {printable(plot)}")
    else:
        print(f"--config.schedule.learning_rate={found.setting:.2g}  ({printable(plot)})")


def _folder() -> Path:
    """Return the run's folder, once the flags are parsed."""
    recipe: Any = flags.FLAGS["config"]
    return Path(flags.FLAGS["workdir"].value or Path("runs") / config_name(recipe.config_filename))


def _typed(words: list[str]) -> str:
    """Return the command that started this run, as it was typed."""
    script = Path(words[0]).name
    program = {"train.py": "python train.py", "__main__.py": "python -m flax_resnet train"}
    return f"{program.get(script, 'flax-resnet train')} {shlex.join(words[1:])}"
