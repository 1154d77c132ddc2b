"""Render the report page of one or several runs from a template."""

import base64
import datetime
import importlib.metadata
import io
import json
import platform
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from flax_resnet.data import Source, open_source
from flax_resnet.errors import InputError, printable
from flax_resnet.files import replace_text, writable
from flax_resnet.finetune.split import photos_name
from flax_resnet.inference.calibration import reliability
from flax_resnet.inference.confusion import worst_mistakes
from flax_resnet.inference.predictor import Predictor
from flax_resnet.inference.suspects import suspects, write_suspects
from flax_resnet.report.charts import COLORS, HEIGHT, WIDTH, Chart, charts, reliability_chart
from flax_resnet.report.figures import (
    CLASS_COLUMNS,
    ClassFigures,
    Figure,
    classification_figures,
    labeled_classes,
    matrix,
    multilabel_figures,
    percent,
    recognized_classes,
    reported_metrics,
    run_figures,
    segmentation_figures,
    segmented_classes,
)
from flax_resnet.report.neighbors import Neighbor, nearest_images
from flax_resnet.report.predictions import (
    SHOWN,
    ConfidentMistake,
    SplitPredictions,
    predict_split,
)
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import Row, read_rows
from flax_resnet.training.runs import Run, evaluate_run, restore
from flax_resnet.version import VERSION

NAME = "report.html"
# The folders of an absolute path, which may follow the kind of a source.
_FOLDERS = re.compile(r"(?<![^:])/(?:[^/]+/)+(?=[^/]+/?$)")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class Subject(NamedTuple):
    """A run as the page shows it."""

    name: str
    data: str
    """What its data are called."""
    run: Run
    rows: list[Row]
    figures: list[Figure]
    classes: list[ClassFigures]
    predictions: SplitPredictions | None
    """None where pixels are classified, or where an image can have several classes."""
    neighbors: list[list[Neighbor]]
    """The training images that are nearest to each of the most confident mistakes."""
    command: str
    doubts: list[ConfidentMistake] | None = None
    """The images whose labels are most likely wrong; None where they were not asked for."""


def write_report(
    workdirs: Sequence[Path],
    out: Path | None = None,
    command: str | None = None,
    suspected: Path | None = None,
) -> Path:
    """Write a page about a run, or one that compares several runs, and return its path.

    Args:
      out: None writes into the folder of the first run.
      command: the command that resumes the run; None shows one in Python.
      suspected: a file for the images whose labels are most likely wrong, which the page shows as
        well.

    Raises:
      InputError: a folder is not a run, or the page cannot be written, or labels that are wrong are
        looked for in several runs, or among the labels of pixels.
    """
    if suspected is not None and len(workdirs) > 1:
        raise InputError(
            f"{len(workdirs)} runs are given with a file for suspects; expected one run, because "
            "each network suspects other labels"
        )
    names = distinct_names(workdirs)
    subjects = [_subject(*each, command) for each in zip(workdirs, names, strict=True)]
    if suspected is not None:
        subjects = [_with_doubts(subjects[0], suspected)]
    path = out or workdirs[0] / NAME
    with writable(path):
        replace_text(path, _page(subjects))
    return path


def distinct_names(workdirs: Sequence[Path]) -> list[str]:
    """Return the names of folders, with as many of the folders above as tell them apart."""
    paths = [path.expanduser().resolve() for path in workdirs]
    count = 1
    while len({path.parts[-count:] for path in paths}) < len(set(paths)):
        count += 1
    return [printable(Path(*path.parts[-count:])) for path in paths]


def _subject(workdir: Path, name: str, command: str | None) -> Subject:
    run = restore(workdir)
    # Where the run is on this machine is nobody's business; its name is enough beside it.
    where = json.dumps(workdir.resolve().name, ensure_ascii=False)
    resume = f"flax_resnet.train(flax_resnet.restore({where}).config, {where})"
    command = command or (
        f"python -c {shlex.quote(f'import flax_resnet; {resume}')}  # in the folder above the run"
    )
    rows, train = read_rows(workdir), _training_images(run)
    predictions, neighbors = None, []
    if run.config.task == "classification":
        predictions = predict_split(run)
        figures = classification_figures(run, predictions)
        classes = recognized_classes(predictions.confusion, class_names(run))
        if train is not None:
            images = [mistake.pixels for mistake in predictions.mistakes]
            neighbors = nearest_images(run, train, images)
    else:
        tested = run.config.data.test_split is not None
        metrics = evaluate_run(run) if tested else reported_metrics(run)
        if run.config.task == "multilabel":
            figures, classes = multilabel_figures(run, metrics), labeled_classes(metrics)
        else:
            figures, classes = segmentation_figures(run, metrics), segmented_classes(metrics)
    figures += run_figures(run, rows, None if train is None else len(train))
    data, command = data_name(run), printable(command)
    return Subject(name, data, run, rows, figures, classes, predictions, neighbors, command)


def _with_doubts(subject: Subject, path: Path) -> Subject:
    """Write the images whose labels are most likely wrong, and return the run with them."""
    predictions, run = subject.predictions, subject.run
    if predictions is None:
        raise InputError(
            f"{run.workdir} is a run of {run.config.task}; expected classification, because only "
            "single labels of whole images are looked at"
        )
    found, sample = suspects(predictions.scores), predictions.sample
    predictor = Predictor(subject.name, run.model, run.variables, run.config.data)

    def place(row: int) -> str:
        return sample.place(int(predictions.places[row]))

    write_suspects(path, found, class_names(run), place)
    doubts = [
        ConfidentMistake(
            each.suggested_probability,
            each.label,
            each.suggested,
            place(each.row),
            predictor.prepare(sample[int(predictions.places[each.row])]["image"]),
        )
        for each in found[:SHOWN]
    ]
    return subject._replace(doubts=doubts)


def _training_images(run: Run) -> Source | None:
    """Return the source of the training images; None if it is gone, which a report survives."""
    try:
        return open_source(run.config.data, run.config.data.train_split)
    except (InputError, OSError):
        return None


def data_name(run: Run) -> str:
    """Return what a run's data are called: a data set, or the folder or file that has them."""
    kind, _, rest = run.config.data.source.partition(":")
    if kind == "tfds":
        return rest
    name = photos_name(run.workdir) if kind == "csv" else None
    if kind in ("csv", "folder", "masks"):
        name = name or Path(rest).expanduser().resolve().name
    return printable(name or kind)


def _page(subjects: list[Subject]) -> str:
    environment = Environment(
        loader=PackageLoader("flax_resnet.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "percent": percent,
        "class_names": class_names,
        "reliability": _reliability,
    }
    return environment.get_template("page.html.jinja").render(
        subjects=subjects,
        charts=charts(
            [(subject.name, subject.rows) for subject in subjects],
            subjects[0].run.step if len(subjects) == 1 else None,
        ),
        width=WIDTH,
        height=HEIGHT,
        colors=COLORS,
        table=_comparison(subjects),
        matrix=matrix,
        class_columns=CLASS_COLUMNS,
        worst_mistakes=worst_mistakes,
        settings=_settings(subjects),
        environment=_environment(),
    )


def _reliability(predictions: SplitPredictions) -> Chart:
    curves = [("as trained", reliability(predictions.scores))]
    if predictions.temperature is not None:
        curves.append(("at the temperature", reliability(predictions.calibrated)))
    return reliability_chart(curves)


def _comparison(subjects: list[Subject]) -> tuple[list[str], list[list[str]]]:
    """Return the titles of all figures, and a row of them for each run."""
    titles = list(dict.fromkeys(each.title for subject in subjects for each in subject.figures))
    found = [{each.title: each.value for each in subject.figures} for subject in subjects]
    rows = [
        [subject.name, subject.data, *(values.get(title, "-") for title in titles)]
        for subject, values in zip(subjects, found, strict=True)
    ]
    return ["Run", "Data", *titles], rows


def class_names(run: Run) -> list[str]:
    """Return a name for every output of a run's network."""
    names = [printable(name) for name in run.class_names]
    return names + [str(at) for at in range(len(names), run.model.num_classes)]


def _settings(subjects: list[Subject]) -> list[tuple[str, list[str], bool]]:
    """Return each key, its values and whether to mark them as differing or not the default."""
    flat = [flat_settings(subject.run.config) for subject in subjects]
    defaults = flat_settings(TrainConfig())
    rows = []
    # A network's arguments are settings only of the runs that set them.
    for key in dict.fromkeys(key for each in flat for key in each):
        values = [each.get(key, "-") for each in flat]
        marked = len(set(values)) > 1 if len(flat) > 1 else values[0] != defaults.get(key)
        rows.append((key, values, marked))
    return sorted(rows, key=lambda row: not row[2])


def flat_settings(config: TrainConfig) -> dict[str, str]:
    """Return each setting as text, without the folders above the files that it names."""
    values = flatten_dict(config.to_dict(), sep=".")
    return {key: printable(_FOLDERS.sub("…/", str(value))) for key, value in values.items()}


def _environment() -> dict[str, str]:
    devices = jax.local_devices()
    return {
        "written": f"{datetime.date.today():%Y-%m-%d}",
        "flax_resnet": VERSION,
        "Python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
        "devices": f"{jax.device_count()} x {devices[0].device_kind}",
        "system": platform.platform(),
    }


def _data_uri(pixels: np.ndarray, side: int | None = None) -> str:
    """Return an image, made no larger than `side`, as a data URI."""
    file = io.BytesIO()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if side is not None:
        image.thumbnail((side, side))
    kind = "jpeg" if min(image.size) > 64 else "png"
    image.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
