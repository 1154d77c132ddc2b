"""Render the report page of one or several runs from a template."""

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

from flax_resnet.errors import printable
from flax_resnet.files import replace_text, writable
from flax_resnet.inference.confusion import worst_mistakes
from flax_resnet.report.charts import COLORS, HEIGHT, WIDTH, charts
from flax_resnet.report.predictions import SplitPredictions, predict_split
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import Row, read_rows
from flax_resnet.training.runs import Run, restore
from flax_resnet.version import VERSION

NAME = "report.html"
# With more classes the page lists the most frequent confusions instead of the matrix.
_MATRIX = 20
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class ClassRow(NamedTuple):
    """The accuracy of a class."""

    name: str
    correct: int
    images: int


class Subject(NamedTuple):
    """A run as the page shows it."""

    name: str
    run: Run
    rows: list[Row]
    predictions: SplitPredictions | None
    command: str


def write_report(
    workdirs: Sequence[Path], out: Path | None = None, command: str | None = None
) -> Path:
    """Write a page about a run, or one that compares several runs, and return its path.

    Args:
      out: None writes into the folder of the first run.
      command: the command that resumes the run; None shows one in Python.

    Raises:
      InputError: a folder is not a run, or the page cannot be written.
    """
    subjects = [_subject(workdir, command) for workdir in workdirs]
    path = out or workdirs[0] / NAME
    with writable(path):
        replace_text(path, _page(subjects))
    return path


def _subject(workdir: Path, command: str | None) -> Subject:
    run = restore(workdir)
    predictions = predict_split(run) if run.config.task == "classification" else None
    where = str(workdir)
    resume = f"flax_resnet.train(flax_resnet.restore({where!r}).config, {where!r})"
    command = command or f"python -c {shlex.quote(f'import flax_resnet; {resume}')}"
    return Subject(printable(workdir), run, read_rows(workdir), predictions, printable(command))


def _page(subjects: list[Subject]) -> str:
    environment = Environment(
        loader=PackageLoader("flax_resnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    percent = "{:.1%}".format
    environment.filters |= {"data_uri": _data_uri, "percent": percent, "class_names": class_names}
    return environment.get_template("page.html.jinja").render(
        subjects=subjects,
        charts=charts(
            [(subject.name, subject.rows) for subject in subjects],
            subjects[0].run.step if len(subjects) == 1 else None,
        ),
        width=WIDTH,
        height=HEIGHT,
        colors=COLORS,
        metrics=_metrics(subjects),
        classes={subject.name: _classes(subject) for subject in subjects},
        worst={
            subject.name: worst_mistakes(subject.predictions.confusion, 15)
            for subject in subjects
            if subject.predictions
        },
        matrix=_MATRIX,
        settings=_settings(subjects),
        environment=_environment(),
    )


def _metrics(subjects: list[Subject]) -> tuple[list[str], list[list[str]]]:
    """Return the titles, and for each run a row of the metrics of its reported checkpoint."""
    runs = [subject.run for subject in subjects]
    tasks = [TASKS[run.config.task].shown_for(len(run.class_names)) for run in runs]
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
            except KeyError:  # The checkpoint was never evaluated.
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
    """Return the classes that have images, the least accurate first."""
    if subject.predictions is None:
        return []
    confusion = subject.predictions.confusion
    rows = [
        ClassRow(name, int(confusion[at, at]), int(confusion[at].sum()))
        for at, name in enumerate(class_names(subject.run))
        if confusion[at].any()
    ]
    return sorted(rows, key=lambda row: row.correct / row.images)


def class_names(run: Run) -> list[str]:
    """Return a name for every output of a run's network."""
    names = [printable(name) for name in run.class_names]
    return names + [str(at) for at in range(len(names), run.model.num_classes)]


def _settings(subjects: list[Subject]) -> list[tuple[str, list[str], bool]]:
    """Return each key, its values and whether to mark them as differing or not the default."""
    flat = [_flat(subject.run.config) for subject in subjects]
    defaults = _flat(TrainConfig())
    rows = []
    for key in flat[0]:
        values = [each[key] for each in flat]
        marked = len(set(values)) > 1 if len(flat) > 1 else values[0] != defaults[key]
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


def _data_uri(pixels: np.ndarray) -> str:
    """Return an image as a data URI."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    kind = "jpeg" if min(image.size) > 64 else "png"
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
