"""Kill a real training run at random moments and check that nothing is lost.

One run of `configs/digits.py` trains without interruption. A second run with the same settings is
killed repeatedly while it starts, steps, saves and deletes old checkpoints; it is restarted each
time, and finishes. Both are then compared bit by bit: parameters, batch statistics and optimizer
state of every kept checkpoint, and every row of the metrics except its images per second.

With --signal TERM the run must save all its steps each time and exit by itself with status 75. With
--processes 2 one of two processes is killed; the other must name it and exit with status 69. The
exit status of this program is 1 if anything is lost, differs or hangs.
"""

import argparse
import contextlib
import dataclasses
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import (
    QUICK_RESULTS,
    RESULTS,
    ROOT,
    add_result_options,
    record_environment,
    result_path,
    shown,
    write_json,
)
from benchmarks.training_run import RunProcess, run_variables, start_together
from tests.endurance.kill_run import Pace, Start, end_all, kill_again_and_again, plan_kills, watch
from tests.endurance.same_run import compare_runs

# Time limit of an uninterrupted run.
LIMIT_S = 1800.0
# Enough for an evaluation, so that its program is compiled too.
WARM_UP_STEPS = 32
SAVE_EVERY, QUICK_SAVE_EVERY = 20, 5
# Seconds without a sign of life after which the survivor considers the killed process lost.
PATIENCE = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, kill, compare; print a table and the verdict and write the JSON."""
    options = _parser().parse_args(arguments)
    options.kills = options.kills or (3 if options.quick else 25)
    # Processes wait three minutes for each other to connect.
    options.within = options.within or (240.0 if options.processes > 1 else 60.0)
    options.steps = options.steps or (40 if options.quick else 20 * options.kills)
    logging.set_verbosity(logging.ERROR)  # Orbax logs every file
    with contextlib.ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        result = kill_and_compare(options, folder.resolve())
    processes = f" {options.processes} processes" if options.processes > 1 else ""
    kind = f"{'quick ' if options.quick else ''}kill sig{options.signal}{processes}"
    target = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    path = result_path(target, kind, f"{result['environment']['cores']} cores")
    write_json(path, result)
    console = Console()
    console.print(_table(result))
    for line in result["faults"]:
        console.print(line, style="red", markup=False, highlight=False)
    console.print(_verdict(result), style="red" if result["faults"] else "green")
    console.print(f"written to {shown(path)}")
    return 1 if result["faults"] else 0


def kill_and_compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return a report of both runs as JSON values; `faults` is empty if nothing was lost."""
    save_every = QUICK_SAVE_EVERY if options.quick else SAVE_EVERY
    moments = plan_kills(options.kills, options.steps, save_every, options.processes, options.seed)
    environment = record_environment(options.note)
    settings = _settings(options, save_every)
    variables = run_variables(options.platform, folder / "cache")

    def starter(name: str, *more: str) -> Start:
        return _starter(folder / name, [*settings, *more], options.processes, variables)

    print("a short run fills the compilation cache", flush=True)
    _run_through(starter("warm-up", f"--stop_after={WARM_UP_STEPS}"), folder / "warm-up")
    print("an uninterrupted run", flush=True)
    pace = _run_through(starter("reference"), folder / "reference")
    number = signal.Signals[f"SIG{options.signal}"]
    began = time.monotonic()
    kills, faults = kill_again_and_again(
        starter("killed"), folder / "killed", moments, number, pace, options.within
    )
    differences, compared = compare_runs(folder / "reference", folder / "killed")
    return {
        "benchmark": "kill",
        "settings": settings,
        "signal": number.name,
        "processes": options.processes,
        "seed": options.seed,
        "within_s": options.within,
        "environment": environment,
        "reference": dataclasses.asdict(pace),
        "killed_whole_s": round(time.monotonic() - began, 1),
        "kills": [dataclasses.asdict(kill) for kill in kills],
        "compared": compared,
        "faults": faults + differences,
    }


def _settings(options: argparse.Namespace, save_every: int) -> list[str]:
    """Return a short run's settings: it logs, evaluates and saves at steps that rarely coincide."""
    settings = {
        "steps": options.steps,
        "log_every": 7,
        "eval_every_epochs": 1.5,
        "checkpoint.every_steps": save_every,
    }
    own = [f"--config.{key}={value}" for key, value in settings.items()]
    config = ROOT / "configs" / "digits.py"
    return [f"--config={config.relative_to(ROOT)}", *own, *(f"--config.{x}" for x in options.set)]


def _starter(folder: Path, settings: list[str], processes: int, variables: dict[str, str]) -> Start:
    """Return a function that starts all processes of a run, with new logs each time."""
    logs = folder.with_name(f"{folder.name}-logs")
    logs.mkdir(exist_ok=True)

    def start() -> list[RunProcess]:
        life = len(list(logs.glob("*-0.out"))) + 1
        arguments = [*settings, f"--workdir={folder}", f"--patience={PATIENCE}"]
        return start_together(arguments, logs / f"{life:03d}", [variables] * processes)

    return start


def _run_through(start: Start, workdir: Path) -> Pace:
    processes = start()
    try:
        return watch(processes, workdir, LIMIT_S)
    finally:
        end_all(processes)


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['signal']}, {result['processes']} process(es)")
    for column in ("kill", "moment", "continues from", "steps to repeat", "ended after", "status"):
        table.add_column(column, justify="left" if column == "moment" else "right")
    for number, kill in enumerate(result["kills"], start=1):
        ends = kill["ends"]
        table.add_row(
            str(number),
            kill["doing"],
            f"step {kill['goes_on_from']}" if kill["goes_on_from"] else "the start",
            str(kill["lost_steps"]),
            ", ".join(f"{end['seconds']:.1f} s" for end in ends),
            ", ".join(str(end["code"]) for end in ends),
        )
    return table


def _verdict(result: dict[str, Any]) -> str:
    kills, compared = result["kills"], result["compared"]
    if result["faults"]:
        return f"{len(result['faults'])} faults in {len(kills)} kills"
    saving = sum(kill["doing"].startswith("saving") for kill in kills)
    return (
        f"nothing was lost in {len(kills)} kills, {saving} of them during a save: "
        f"{compared['rows']} rows, and {compared['arrays']} arrays of {compared['checkpoints']} "
        "checkpoints are the same bit by bit"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance.kill",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, help="default: 25, quick 3")
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL", help="default: KILL")
    parser.add_argument(
        "--processes", type=int, default=1, help="of the run, one of which is killed; default: 1"
    )
    parser.add_argument("--steps", type=int, help="of the run; default: 20 a kill, quick 40")
    parser.add_argument(
        "--within", type=float, help="seconds to exit in; default: 60, several processes 240"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments; default: 0")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting"
    )
    parser.add_argument("--platform", default="cpu", help="JAX's; default: cpu")
    parser.add_argument("--keep", type=Path, help="an empty folder that keeps runs and their logs")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
