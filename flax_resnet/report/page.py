"""The page: what is known of runs, put into a template."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from flax_resnet.errors import InputError, printable
from flax_resnet.files import replace_text
from flax_resnet.inference.confusion import worst_mistakes
from flax_resnet.report.charts import COLORS, HEIGHT, WIDTH, charts
from flax_resnet.report.judging import Judged, judge
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import Row, read_rows
from flax_resnet.training.runs import Run, restore
from flax_resnet.version import VERSION

NAME = "report.html"
# Of more classes nobody reads a matrix.
_MATRIX = 20
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class ClassRow(NamedTuple):
    """How a class fares."""

    name: str
    right: int
    pictures: int


class Subject(NamedTuple):
    """A run as the page shows it."""

    name: str
    run: Run
    rows: list[Row]
    judged: Judged | None
    command: str


def write_report(
    workdirs: Sequence[Path], out: Path | None = None, command: str | None = None
) -> Path:
    """Write a page about a run, or one that compares several, and return its path.

    Args:
      out: None puts it into the folder of the first.
      command: what makes the run go on; None: what does so in Python.

    Raises:
      InputError: a folder holds no run, or the page cannot be written.
    """
    subjects = [_subject(workdir, command) for workdir in workdirs]
    path = out or workdirs[0] / NAME
    try:
        replace_text(path, _page(subjects))
    except OSError as error:
        raise InputError(f"{path} cannot be written to: {error.strerror or error}") from None
    return path


def _subject(workdir: Path, command: str | None) -> Subject:
    run = restore(workdir)
    judged = judge(run) if run.config.task == "classification" else None
    where = str(workdir)
    resume = f"flax_resnet.train(flax_resnet.restore({where!r}).config, {where!r})"
    command = command or f"python -c {shlex.quote(f'import flax_resnet; {resume}')}"
    return Subject(printable(workdir), run, read_rows(workdir), judged, printable(command))


def _page(subjects: list[Subject]) -> str:
    environment = Environment(
        loader=PackageLoader("flax_resnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    percent = "{:.1%}".format
    environment.filters |= {"picture": _picture, "percent": percent, "class_names": class_names}
    return environment.get_template("page.html.jinja").render(
        subjects=subjects,
        charts=charts(
            [(subject.name, subject.rows) for subject in subjects],
            subjects[0].run.step if len(subjects) == 1 else None,
        ),
        width=WIDTH,
        height=HEIGHT,
        colors=COLORS,
        figures=_figures(subjects),
        classes={subject.name: _classes(subject) for subject in subjects},
        worst={
            subject.name: worst_mistakes(subject.judged.confusion, 15)
            for subject in subjects
            if subject.judged
        },
        matrix=_MATRIX,
        settings=_settings(subjects),
        environment=_environment(),
    )


def _figures(subjects: list[Subject]) -> tuple[list[str], list[list[str]]]:
    """Return titles and a row of figures for each run, of the checkpoint that is shown."""
    tasks = [TASKS[subject.run.config.task] for subject in subjects]
    titles = list(dict.fromkeys(title for task in tasks for title in task.columns))
    table = []
    for subject, task in zip(subjects, tasks, strict=True):
        run, cells = subject.run, []
        own = "" if run.average is None else f"{run.average}_"
        for title in titles:
            form = task.columns.get(title, "")
            try:
                values = {key.removeprefix(own): value for key, value in run.metrics.items()}
                cells.append(form.format_map(values) or "-")
            except KeyError:  # It was never evaluated.
                cells.append("-")
        parameters = sum(leaf.size for leaf in jax.tree.leaves(run.variables["params"]))
        table.append(
            [
                subject.name,
                run.config.model.name,
                run.config.data.source,
                f"{parameters:,}",
                f"{run.step:,}",
                *cells,
            ]
        )
    return ["run", "network", "data", "parameters", "step", *titles], table


def _classes(subject: Subject) -> list[ClassRow]:
    """Return the classes of which there are pictures, the worst first."""
    if subject.judged is None:
        return []
    confusion = subject.judged.confusion
    rows = [
        ClassRow(name, int(confusion[at, at]), int(confusion[at].sum()))
        for at, name in enumerate(class_names(subject.run))
        if confusion[at].any()
    ]
    return sorted(rows, key=lambda row: row.right / row.pictures)


def class_names(run: Run) -> list[str]:
    """Return a name for every output of a run's network."""
    names = [printable(name) for name in run.class_names]
    return names + [str(at) for at in range(len(names), run.model.num_classes)]


def _settings(subjects: list[Subject]) -> list[tuple[str, list[str], bool]]:
    """Return key, values and whether it is worth a look: it differs, or is not the default."""
    flat = [_flat(subject.run.config) for subject in subjects]
    usual = _flat(TrainConfig())
    rows = []
    for key in flat[0]:
        values = [each[key] for each in flat]
        marked = len(set(values)) > 1 if len(flat) > 1 else values[0] != usual[key]
        rows.append((key, values, marked))
    return sorted(rows, key=lambda row: not row[2])


def _flat(config: TrainConfig) -> dict[str, str]:
    values = flatten_dict(config.to_dict(), sep=".")
    return {key: printable(str(value)) for key, value in values.items()}


def _environment() -> dict[str, str]:
    devices = jax.local_devices()
    return {
        "flax_resnet": VERSION,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": f"{jax.device_count()} x {devices[0].device_kind}",
        "system": platform.platform(),
    }


def _picture(pixels: np.ndarray) -> str:
    """Return a picture as an address that holds all of it."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind = "jpeg" if min(image.size) > 64 else "png"
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
