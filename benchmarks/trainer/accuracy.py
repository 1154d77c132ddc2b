"""Write the accuracies of finished runs of one recipe as one result: seeds, spread, time, curves.

    python -m benchmarks.trainer.accuracy fashion_mnist runs/fashion/seed=*

Each folder holds a run that has reached its last step. What a run changed in the recipe is read
from its settings; runs that changed the same are seeds of one variant. `--per-class` evaluates
every run once more, for precision, recall and F1 of each class.
"""

import argparse
import math
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from benchmarks.measuring import (
    add_result_options,
    record_environment,
    shown,
    table,
    target_path,
    write_json,
)
from benchmarks.parts import device_name
from flax_resnet.inference.assessment import assess
from flax_resnet.inference.scores import open_labeled
from flax_resnet.onednn.choice import AUTO
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import read_rows
from flax_resnet.training.networks import open_network
from flax_resnet.training.parsing import parse
from flax_resnet.training.recipes import load_recipe
from flax_resnet.training.runs import default_split
from flax_resnet.training.workdir import stored_config

# The variant whose runs changed nothing that the others did not change too.
PLAIN = "recipe"
# Settings that say where files are, or what is written down, and not what is learned.
_FREE = ("seed", "log_every", "data.data_dir", "data.workers", "checkpoint.", "logging.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the runs, write the JSON, and print a line for each variant."""
    options = _parser().parse_args(arguments)
    recipe = parse(load_recipe(options.recipe))
    runs = [read_run(folder, recipe) for folder in options.runs]
    if options.per_class:
        for run, folder in zip(runs, options.runs, strict=True):
            run["classes"] = class_measures(folder)
    environment = record_environment(options.note)
    device = device_name("cpu" if not environment["gpus"] else "gpu", environment)
    shared = shared_settings(runs)
    name, colon, argument = options.recipe.partition(":")
    stem = Path(name).stem
    result: dict[str, Any] = {
        "benchmark": "accuracy",
        "config": f"configs/{stem}.py{colon}{argument}",
        "ranked_by": TASKS[recipe.task].ranked_by,
        "environment": environment,
        "device": device,
        "trained_at": options.commit or environment["commit"],
        "shared": shared,
        "variants": {},
        "runs": runs,
    }
    for run in runs:
        own = [each for each in run["settings"] if each not in shared]
        run["variant"] = options.name or " ".join(own) or PLAIN
        run["command"] = command(result["config"], run)
        result["variants"][run["variant"]] = own
    result["summary"] = {name: summarized(runs, name) for name in result["variants"]}
    path = target_path(options, f"accuracy {options.label or stem}", device)
    write_json(path, result)
    print(f"{report(result)}\n\nwritten to {shown(path)}")
    return 0


def read_run(folder: Path, recipe: TrainConfig) -> dict[str, Any]:
    """Return what a finished run changed in its recipe, its evaluations, test, time and curve.

    Raises:
      SystemExit: there is no run in the folder, or it has not reached its last step.
    """
    config = stored_config(folder)
    if config is None:
        raise SystemExit(f"{folder} holds no run; expected the --workdir of one that has finished")
    rows = read_rows(folder)
    evaluations = [row for row in rows if row["kind"] == "eval"]
    tests = [row for row in rows if row["kind"] == "test"]
    training = [row for row in rows if row["kind"] == "train"]
    if not evaluations or evaluations[-1]["step"] < _last_step(config, training):
        raise SystemExit(f"the run in {folder} has not finished: run its command again, to its end")
    if config.test_when_done and not tests:
        raise SystemExit(f"the run in {folder} has no test yet: run its command again, to its end")
    return {
        "seed": config.seed,
        "settings": changed_settings(config, recipe),
        "model": config.model.name,
        "steps": evaluations[-1]["step"],
        **_times(training, evaluations[-1]["step"], config.data.batch_size),
        "evaluations": evaluations,
        "test": tests[-1] if tests else None,
        "curve": [
            {key: row[key] for key in ("step", "epoch", "loss", "accuracy", "learning_rate")}
            for row in training
        ],
    }


def _last_step(config: TrainConfig, training: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of steps of a run that nothing stops early."""
    if config.early_stopping.patience is not None:
        return 0
    # A run too short to log a step has evaluated at its last one only.
    epoch_steps = training[-1]["step"] / training[-1]["epoch"] if training else 0.0
    return config.steps or math.ceil(round(config.epochs * epoch_steps, 6))


def _times(
    rows: Sequence[Mapping[str, Any]], steps: int, batch_size: int
) -> dict[str, float | None]:
    """Return the seconds of training, of the steps alone, as the logged images per second give.

    A run that was stopped and went on has no other clock; what it did while nothing was logged is
    taken to be as fast as the median.
    """
    speeds = [row["images_per_second"] for row in rows if row["images_per_second"]]
    if not speeds:
        return {"seconds": None, "seconds_per_epoch": None, "images_per_second": None}
    # Intervals of `log_every` steps have the same length.
    mean = statistics.harmonic_mean(speeds)
    images = rows[-1]["step"] * batch_size / rows[-1]["epoch"]
    return {
        "seconds": round(steps * batch_size / mean, 1),
        "seconds_per_epoch": round(images / mean, 1),
        "images_per_second": round(statistics.median(speeds), 1),
    }


def changed_settings(config: TrainConfig, recipe: TrainConfig) -> list[str]:
    """Return `key=value` for each setting that a run changed in its recipe, as flags take it."""
    now, then = (flatten_dict(each.to_dict(), sep=".") for each in (config, recipe))
    found = []
    for key in sorted(now.keys() | then.keys()):
        value, before = now.get(key), then.get(key)
        # The run fills in what the recipe leaves open.
        filled = key == "model.num_classes" and before is None
        filled |= key == "cpu_kernels" and before == AUTO
        if value != before and not filled and not key.startswith(_FREE):
            found.append(f"{key}={value}")
    return found


def shared_settings(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the settings that all runs changed alike."""
    return [each for each in runs[0]["settings"] if all(each in run["settings"] for run in runs)]


def command(config: str, run: Mapping[str, Any]) -> str:
    """Return the command that trains such a run."""
    changes = [f"--config.{each}" for each in [*run["settings"], f"seed={run['seed']}"]]
    return shlex.join(["python", "train.py", "--config", config, *changes])


def summarized(runs: Sequence[Mapping[str, Any]], variant: str) -> dict[str, Any]:
    """Return the metrics of a variant over its seeds: mean, standard deviation and all values.

    They are those of the test split if the runs have one, else of the last evaluation.
    """
    chosen = [run for run in runs if run["variant"] == variant]
    last = [run["test"] or run["evaluations"][-1] for run in chosen]
    keys = [key for key, value in last[0].items() if isinstance(value, float) and key != "count"]
    found: dict[str, Any] = {"seeds": [run["seed"] for run in chosen]}
    for key in keys:
        values = [row[key] for row in last]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found[key] = {"mean": statistics.mean(values), "deviation": deviation, "values": values}
    return found


def class_measures(folder: Path) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and images of each class of a run's test split."""
    network = open_network(str(folder))
    data = network.origin.data()
    found = open_labeled(data, default_split(data), network.class_names, network.model, str(folder))
    classes: list[dict[str, Any]] = assess(network, found, data, None)["classes"]
    return classes


def report(result: Mapping[str, Any]) -> str:
    """Return a table with a row for each variant."""
    rows, figure = [], result["ranked_by"]
    for name, found in result["summary"].items():
        runs = [run for run in result["runs"] if run["variant"] == name]
        accuracy = found[figure]
        deviation = accuracy["deviation"]
        cells = [name, f"{accuracy['mean']:.2%}", "" if deviation is None else f"{deviation:.2%}"]
        seconds = [run["seconds_per_epoch"] for run in runs if run["seconds_per_epoch"]]
        speed = f"{statistics.median(seconds):.1f}" if seconds else ""
        rows.append([*cells, str(len(runs)), speed])
    return table(["variant", figure, "deviation", "seeds", "s/epoch"], rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trainer.accuracy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="its name, with its argument after a colon if it has one")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--name", help="the name of the variant, if all runs are of one")
    parser.add_argument("--label", help="part of the name of the JSON; default: the recipe")
    parser.add_argument("--commit", help="the commit that trained, if it is not this one")
    parser.add_argument("--per-class", action="store_true", help="also evaluate each class")
    add_result_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
