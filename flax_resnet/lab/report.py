"""Run an experiment and write its numbers, its finding and its plot to a folder."""

import dataclasses
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flax_resnet.errors import require_known, require_local
from flax_resnet.files import replace_text, replacing
from flax_resnet.lab.experiment import Track, load_experiment, silent
from flax_resnet.lab.settings import change_settings
from flax_resnet.version import VERSION


@dataclasses.dataclass(frozen=True)
class Report:
    """The finding of an experiment, and the files with its numbers and its plot."""

    finding: str
    numbers: Path
    plot: Path


def perform(
    name: str,
    out: str | Path,
    size: str = "small",
    assignments: Iterable[str] = (),
    track: Track[Any] = silent,
) -> Report:
    """Run the experiment called `name`; write `NAME.json` and `NAME.png` into the folder `out`.

    Args:
      size: `small`, or `paper` for an accelerator.
      assignments: changes of its settings, such as `depths=20,56`.
      track: wraps the loops of the experiment to show progress.

    Raises:
      InputError: the experiment, the size or a setting is unknown, or a value is invalid.
    """
    folder = Path(out)
    require_local(folder)
    experiment = load_experiment(name)
    require_known("the size", size, experiment.sizes)
    settings = change_settings(experiment.sizes[size], assignments)
    result = experiment.run(settings, track)
    finding = experiment.finding(result)
    folder.mkdir(parents=True, exist_ok=True)
    report = Report(finding, folder / f"{name}.json", folder / f"{name}.png")
    facts = {
        "experiment": name,
        "finding": finding,
        "settings": dataclasses.asdict(settings),
        "versions": {"flax_resnet": VERSION, "jax": jax.__version__},
        "hardware": f"{jax.default_backend()}, {platform.machine()}",
        "result": dataclasses.asdict(result),
    }
    replace_text(report.numbers, json.dumps(facts, indent=1, default=_plain) + "\n")
    with replacing(report.plot) as plot:
        experiment.draw(result).savefig(plot)
    return report


def _plain(value: Any) -> Any:
    """Return an array as a list, with six significant digits; NaN becomes null."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = np.vectorize(_number, otypes=[object])(array)
    return array.tolist()


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None
