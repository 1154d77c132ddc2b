"""Write docs/results.md, and the table of measured results in README.md, from stored results.

    python -m tools.results_page

Accuracies come from `accuracy-*.json` (`python -m benchmarks.trainer.accuracy`), comparisons with
torch from `beside-torch-*.json` (`python -m benchmarks.peers.accuracy`). All other results are
listed. `--check` writes nothing and compares the pages with the results.
"""

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT
from tools.recipes import LEFT_OUT
from tools.speed_table import markdown, page_with

PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
MARKERS = ("<!-- results: python -m tools.results_page -->", "<!-- results end -->")
INTRODUCTION = """# Results

Every figure that was measured, with the command, the commit, the seeds, the machine, the time and
the file in `benchmarks/results` that it comes from. `python -m tools.results_page` generates this
page. [Recipes](recipes.md) has the published accuracies beside these, [Speed](speed.md) the tables
of speed and [Numerical accuracy](accuracy.md) the errors against published implementations.
"""
# Results from before they were stored, with what they reached: a stored result of the recipe that
# reaches as much takes their place.
TOLD = {
    "digits": (
        0.978,
        "`configs/digits.py`, scikit-learn's 1,797 digits, shuffled",
        "97.8 to 99.7 % accuracy, by seed and processor",
    ),
    "fashion_mnist": (
        0.917,
        "`configs/fashion_mnist.py`, Fashion-MNIST",
        "91.7 % after three epochs (one seed, no crops or flips)",
    ),
    "mnist": (0.986, "`configs/mnist.py`, MNIST, one epoch", "98.6 % accuracy"),
    "unet_isbi": (
        0.8,
        "`configs/unet_isbi.py`, membranes in 6 held-out micrographs",
        "Dice 0.80, 7.9 % of the pixels wrong",
    ),
    "parity": (
        0.0,
        "logits against timm and torchvision, float32, worst of each family",
        "5.5e-7 to 1.4e-5 of the largest logit",
    ),
}
Result = dict[str, Any]


def load_results(folder: Path = RESULTS) -> dict[str, Result]:
    """Return the results in a folder by the names of their files."""
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def page(results: dict[str, Result]) -> str:
    """Return the page, in Markdown."""
    sections = [INTRODUCTION, *_accuracies(results), *_beside_torch(results), *_stored(results)]
    return "\n".join(sections) + "\n"


def readme_table(results: dict[str, Result]) -> str:
    """Return the rows of README.md: the best variant of each recipe, and results without a file."""
    found = {name: (value, (what, figure)) for name, (value, what, figure) in TOLD.items()}
    for variant in _variants(results):
        name, row = variant["recipe"], (_what(variant), _figure(variant))
        if name not in found or variant["mean"] >= found[name][0]:
            found[name] = (variant["mean"], row)
    rows = [row for _, row in found.values()]
    kills = [result for result in results.values() if result.get("benchmark") == "kill"]
    if kills:
        count = sum(len(result["kills"]) for result in kills)
        saving = sum("saving" in kill["doing"] for result in kills for kill in result["kills"])
        faults = sum(len(result["faults"]) for result in kills)
        lost = f"{faults} faults" if faults else "no update lost"
        rows.append((f"{count} kills at random moments, {saving} of them during a save", lost))
    return _table(("what", "result"), rows)


def _variants(results: dict[str, Result]) -> Iterator[Result]:
    """Yield each variant of each stored recipe: its figures, what it changed, its first run."""
    for file, result in results.items():
        if result.get("benchmark") != "accuracy":
            continue
        key = result.get("ranked_by", "top1")
        for name, own in result["variants"].items():
            runs = [run for run in result["runs"] if run["variant"] == name]
            values = [(run["test"] or run["evaluations"][-1])[key] for run in runs]
            averaged = [(run["test"] or run["evaluations"][-1]).get(f"ema_{key}") for run in runs]
            seconds = [run["seconds_per_epoch"] for run in runs if run.get("seconds_per_epoch")]
            whole = [run["seconds"] for run in runs if run.get("seconds")]
            yield {
                "file": file,
                "result": result,
                "recipe": Path(result["config"].partition(":")[0]).stem,
                "variant": name,
                "changed": [*result["shared"], *own],
                "key": key,
                "split": "test" if runs[0]["test"] else "evaluation",
                "values": values,
                "mean": statistics.mean(values),
                "averaged": averaged if all(averaged) else [],
                "epoch_s": statistics.median(seconds) if seconds else None,
                "run_s": statistics.median(whole) if whole else None,
                "seeds": [run["seed"] for run in runs],
            }


def _accuracies(results: dict[str, Result]) -> Iterator[str]:
    variants = list(_variants(results))
    yield "## Accuracy\n"
    header = ["recipe", "changed", "metric", "mean", "deviation", "lowest to highest", "seeds"]
    header += ["s/epoch", "minutes a run", "machine", "commit", "file"]
    rows = []
    for each in variants:
        times = (_number(each["epoch_s"], 1), _number(each["run_s"], 60))
        averaged = f"ema_{each['key']}"
        for key, values in ((each["key"], each["values"]), (averaged, each["averaged"])):
            if values:
                changed = _changes(each) or "nothing"
                cells = (f"`{each['recipe']}`", changed, f"{key}, {each['split']} images")
                origin = _origin(each["file"], each["result"])
                rows.append((*cells, *_spread(values), *times, *origin))
    yield _table(header, rows)
    yield "\nThe commands, for the first seed (the others differ in `--config.seed`):\n\n```"
    yield "\n".join(_command(each) for each in variants)
    yield "```\n"


def _beside_torch(results: dict[str, Result]) -> Iterator[str]:
    kinds = ("steps", "runs")
    steps, runs = (
        [
            each
            for each in results.items()
            if each[1]["benchmark"] == f"accuracy_beside_torch_{kind}"
        ]
        for kind in kinds
    )
    if not steps and not runs:
        return
    yield "## Beside torch\n"
    yield (
        "The same recipe, initial weights and batches in torch, with its own network, loss and\n"
        "optimizer (`python -m benchmarks.peers.accuracy`). Step by step, each number is the norm\n"
        "of the difference from our training in float64, relative to its norm.\n"
    )
    for file, result in steps:
        yield f"{_title(result)}: {', '.join(_origin(file, result))}.\n\n{_steps(result)}\n"
    if runs:
        header = ["recipe", "seeds", "flax_resnet", "torch", "ours minus torch's", "95 % interval"]
        header += ["machine", "commit", "file"]
        yield _table(header, [_run_cells(file, result) for file, result in runs]) + "\n"


def _steps(result: Result) -> str:
    """Return the table of a comparison step by step."""
    names = ("jax-float32", "torch-float32", "torch-float64")
    columns = [(name, kind) for name in names for kind in ("loss", "gradient")]
    rows = []
    for at, step in enumerate(result["kept_steps"]):
        cells = [f"{result['differences'][name][kind][at]:.1e}" for name, kind in columns]
        rows.append([str(step), f"{result['losses']['jax-float64'][step]:.4f}", *cells])
    return _table(["step", "loss", *(f"{kind}, {name}" for name, kind in columns)], rows)


def _run_cells(file: str, result: Result) -> list[str]:
    """Return the row of a comparison of whole runs."""
    found = result["summary"]
    means = [f"{found[name]['mean']:.2%}" for name in ("jax", "torch")]
    interval = found.get("interval")
    ends = f"{interval['from']:+.2%} to {interval['to']:+.2%}" if interval else ""
    difference = f"{found['difference']['mean']:+.2%}"
    cells = [_title(result), str(found["seeds"]), *means, difference, ends]
    return [*cells, *_origin(file, result)]


def _stored(results: dict[str, Result]) -> Iterator[str]:
    yield "## All stored results\n"
    rows = [
        (
            f"`{result['benchmark']}`",
            str(result["environment"]["date"])[:10],
            *_origin(file, result),
        )
        for file, result in results.items()
    ]
    yield _table(("benchmark", "date", "machine", "commit", "file"), sorted(rows))


def _title(result: Result) -> str:
    changes = (
        f" ({', '.join(f'`{each}`' for each in result['changes'])})" if result["changes"] else ""
    )
    return f"`{Path(result['config']).stem}`{changes}"


def _what(variant: Result) -> str:
    changes = _changes(variant)
    return f"`configs/{variant['recipe']}.py`" + (f", {changes}" if changes else "")


def _changes(variant: Result) -> str:
    """Return what a variant learns differently from its recipe."""
    names = {each: each.partition("=")[0].rpartition(".")[2] for each in variant["changed"]}
    return ", ".join(f"`{each}`" for each, name in names.items() if name not in LEFT_OUT)


def _figure(variant: Result) -> str:
    mean, deviation, ends, count = _spread(variant["values"])
    spread = f" ({ends})" if deviation else ""
    seeds = f"{count} seeds" if len(variant["values"]) > 1 else "one seed"
    return f"{mean} {variant['key']} of the {variant['split']} images{spread}, {seeds}"


def _spread(values: Sequence[float]) -> tuple[str, str, str, str]:
    """Return mean, standard deviation, range and number, in words."""
    several = len(values) > 1
    deviation = f"{statistics.stdev(values):.2%}" if several else ""
    ends = f"{min(values):.2%} to {max(values):.2%}" if several else ""
    return f"{statistics.mean(values):.2%}", deviation, ends, str(len(values))


def _origin(file: str, result: Result) -> tuple[str, str, str]:
    """Return machine, commit and file."""
    environment = result["environment"]
    machine = f"{environment['cores']} cores, {environment['cpu'].split(' @')[0]}"
    if environment["gpus"]:
        machine = ", ".join(gpu["name"] for gpu in environment["gpus"])
    commit = result.get("trained_at") or environment["commit"] or ""
    return machine, commit, f"`{file}`"


def _command(variant: Result) -> str:
    changes = [*variant["changed"], f"seed={variant['seeds'][0]}"]
    words = [f"--config.{each}" for each in changes]
    return shlex.join(["python", "train.py", "--config", variant["result"]["config"], *words])


def _number(value: float | None, unit: float) -> str:
    return "" if value is None else f"{value / unit:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(markdown(cells) for cells in (header, ("---",) * len(header), *rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write both pages, or with `--check` return 1 if one is not up to date."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.results_page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    results = load_results()
    readme = page_with(README.read_text(), readme_table(results), MARKERS)
    stale = []
    for path, text in ((PAGE, page(results)), (README, readme)):
        if not path.exists() or path.read_text() != text:
            stale.append(path.name)
            if not options.check:
                path.write_text(text)
    if options.check:
        print(f"not up to date: {', '.join(stale)}" if stale else "up to date")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
