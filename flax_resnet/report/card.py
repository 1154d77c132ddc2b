"""The model card of a run: what the hub shows above its files."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from flax_resnet.errors import printable, shortened
from flax_resnet.files import replace_text
from flax_resnet.report.figures import reported_metrics
from flax_resnet.report.page import data_name, flat_settings
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.logging.writers import Row, read_rows
from flax_resnet.training.runs import Run
from flax_resnet.version import VERSION

CARD, CURVES = "README.md", "curves.png"
_PIPELINES = {
    "classification": "image-classification",
    "multilabel": "image-classification",
    "segmentation": "image-segmentation",
}
_METRICS = {"top1": "accuracy", "map": "mAP", "dice": "dice"}
# The kind and key in `metrics.jsonl` of each curve, by panel.
_PANELS = {
    "loss": (("train", "loss", "training"), ("eval", "loss", "validation")),
    "accuracy": (("train", "accuracy", "training"), ("eval", "top1", "validation")),
    "mAP": (("eval", "map", "validation"),),
    "Dice": (("eval", "dice", "validation"),),
}


def write_card(run: Run, folder: Path, repository: str, license: str, base: str | None) -> None:
    """Write `README.md` and `curves.png` about a run beside its exported weights.

    Args:
      repository: `OWNER/NAME`, under which the card tells how to load the network.
      license: its identifier on the hub, such as `apache-2.0`.
      base: the repository of the weights that the run started from, if it has one.
    """
    rows = read_rows(run.workdir)
    _curves(rows).savefig(folder / CURVES)
    replace_text(folder / CARD, _card(run, rows, repository, license, base))


def _card(run: Run, rows: Sequence[Row], repository: str, license: str, base: str | None) -> str:
    config, measured = run.config, _measured(run, rows)
    started = "random weights" if config.model.pretrained is None else base or "other weights"
    parts = [
        f"---\n{_metadata(run, measured, repository, license, base)}\n---",
        f"# {repository.partition('/')[2]}",
        f"`{config.model.name}` for {config.task}, trained by flax_resnet {VERSION} "
        f"from {_cell(started)} on **{_cell(data_name(run))}**: step {run.step:,} with a batch "
        f"size of {config.data.batch_size}, images of {config.data.test_size} px.",
        f"Classes ({len(run.class_names)}): {_cell(shortened(run.class_names))}",
        "## Metrics",
        _table(measured, config.task),
        f"![Loss and accuracy by step]({CURVES})",
        "## Use",
        "```python\nimport flax_resnet\n\n"
        f'model, variables = flax_resnet.load_pretrained("hub:{repository}")\n'
        f'names = flax_resnet.class_names("hub:{repository}")\n```',
        "## Settings",
        "Those that are not the defaults of flax_resnet:",
        "\n".join(["| setting | value |", "|---|---|", *_settings(config)]),
        f"## License\n\n{license}",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(
    run: Run, measured: dict[str, dict[str, float]], repository: str, license: str, base: str | None
) -> str:
    """Return the header of a card, which the hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    task = run.config.task
    key = TASKS[task].ranked_by
    results = [
        EvalResult(
            task_type=_PIPELINES[task],
            dataset_type=data_name(run),
            dataset_name=data_name(run),
            dataset_split=split,
            metric_type=_METRICS[key],
            metric_value=round(metrics[key], 6),
        )
        for split, metrics in measured.items()
        if math.isfinite(metrics[key])
    ]
    return ModelCardData(
        license=license,
        library_name="flax_resnet",
        pipeline_tag=_PIPELINES[task],
        tags=["flax", "jax", "resnet", _PIPELINES[task]],
        base_model=base,
        model_name=repository.partition("/")[2],
        eval_results=results or None,
    ).to_yaml()


def _measured(run: Run, rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the metrics of this checkpoint by split: of its evaluation, and of its test."""
    data, found = run.config.data, {}
    if run.metrics:
        found[data.eval_split] = reported_metrics(run)
    tests = [row for row in rows if row["kind"] == "test" and row["step"] == run.step]
    if tests and data.test_split is not None:
        values = {key: math.nan if value is None else value for key, value in tests[-1].items()}
        found[data.test_split] = values
    return found


def _table(measured: dict[str, dict[str, float]], task: str) -> str:
    if not measured:
        return "This checkpoint was not evaluated."
    columns = TASKS[task].columns
    titles = ["split", *columns]
    rows = [
        [split, *(column.format_map(metrics) for column in columns.values())]
        for split, metrics in measured.items()
    ]
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _settings(config: TrainConfig) -> list[str]:
    defaults = flat_settings(TrainConfig())
    return [
        f"| `{_cell(key)}` | {_cell(value)} |"
        for key, value in flat_settings(config).items()
        if value != defaults.get(key)
    ]


def _cell(text: str) -> str:
    """Return text that neither ends a cell of a table nor becomes HTML or a link."""
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("[", "&#91;")):
        text = text.replace(character, escaped)
    return printable(text)


def _curves(rows: Sequence[Row]) -> Figure:
    shown = {
        title: curves
        for title, kinds in _PANELS.items()
        if (curves := [(*_points(rows, kind, key), name) for kind, key, name in kinds])
        and any(len(values) for _, values, _ in curves)
    }
    figure = Figure(figsize=(4.5 * max(len(shown), 1), 3), dpi=120, layout="constrained")
    for at, (title, curves) in enumerate(shown.items(), 1):
        axes = figure.add_subplot(1, len(shown), at)
        for steps, values, name in curves:
            if values:
                axes.plot(steps, values, label=name, marker="." if len(values) == 1 else "")
        axes.set(title=title, xlabel="step")
        axes.legend(frameon=False)
    return figure


def _points(rows: Sequence[Row], kind: str, key: str) -> tuple[list[int], list[float]]:
    found = [(row["step"], row[key]) for row in rows if row["kind"] == kind and row.get(key)]
    return [step for step, _ in found], [value for _, value in found]
