"""Train a network: `python train.py`, or `flax-resnet train` without a checkout."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags

from flax_resnet.commands.flags import config_flag, config_name, run_flags
from flax_resnet.commands.report import report_when_done
from flax_resnet.commands.reporting import Done
from flax_resnet.training.cluster.joining import PATIENCE, joined
from flax_resnet.training.logging.writers import read_rows
from flax_resnet.training.loop import train
from flax_resnet.training.recipes import recipes

EXAMPLE = "train --config digits --config.epochs=5 --workdir runs/short"
_FLAGS = """\
flags: --config FILE or NAME, --config.KEY=VALUE, --workdir FOLDER; all of them: --helpshort
recipes: """


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: all words are flags of train.py."""
    parser.epilog = f"{parser.epilog}\n\n{_FLAGS}{', '.join(recipes())}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(flags=[])


def run(args: argparse.Namespace) -> Done:
    """Train; the facts are the metrics of the last evaluation."""
    try:
        main([sys.argv[0], *args.flags])
    except SystemExit as end:
        if end.code:
            raise
    rows = [row for row in read_rows(_folder()) if row["kind"] == "eval"]
    return Done({"run": str(_folder()), "evaluation": rows[-1] if rows else None})


def main(words: list[str]) -> None:
    """Train with the flags after the program's name, then raise `SystemExit`."""
    config = config_flag()
    flags.DEFINE_string("workdir", None, "folder of the run; default: runs/RECIPE")
    stop_after = flags.DEFINE_integer("stop_after", None, "stop and save after this step")
    allow = flags.DEFINE_bool(
        "allow_config_change", False, "continue a run although its settings differ"
    )
    coordinator = flags.DEFINE_string(
        "coordinator", None, "host:port of the first of several processes; off: a single process"
    )
    process_id = flags.DEFINE_integer("process_id", None, "index of this process, from 0")
    process_count = flags.DEFINE_integer(
        "process_count", None, "number of processes that train together"
    )
    report = flags.DEFINE_bool("report", True, "write report.html at the end")
    patience = flags.DEFINE_integer(
        "patience",
        PATIENCE,
        "seconds without a sign of life after which another process counts as lost",
    )

    def run(arguments: list[str]) -> None:
        del arguments
        cluster = (coordinator.value, process_id.value, process_count.value)
        with joined(*cluster, patience=patience.value):
            train(
                config.value,
                _folder(),
                stop_after=stop_after.value,
                allow_config_change=allow.value,
            )
            if report.value:
                report_when_done(_folder(), _typed(words))

    run_flags(run, words)


def _folder() -> Path:
    """Return the run's folder, once the flags are parsed."""
    recipe: Any = flags.FLAGS["config"]
    return Path(flags.FLAGS["workdir"].value or Path("runs") / config_name(recipe.config_filename))


def _typed(words: list[str]) -> str:
    """Return the command that started this run, as it was typed."""
    script = Path(words[0]).name
    program = {"train.py": "python train.py", "__main__.py": "python -m flax_resnet train"}
    return f"{program.get(script, 'flax-resnet train')} {shlex.join(words[1:])}"
