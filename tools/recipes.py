"""Write docs/recipes.md: every recipe's settings, source, expected and measured accuracy.

    python -m tools.recipes

Everything comes from the recipes themselves and from `benchmarks/results/accuracy-*.json`.
"""

import importlib.util
import json
import re
import statistics
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring import RESULTS, ROOT
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse

PAGE = ROOT / "docs" / "recipes.md"
_INTRODUCTION = """# Recipes

What each recipe in `configs/` sets, where that comes from, what it is expected to
reach and what it has reached here. Settings are verified where tests compare rates, weight decay,
augmentation and the loss of mixed labels with what the reference implementation computes
(`python -m tools.recipe_goldens`). `python -m tools.recipes` generates this page. Many recipes
take the model after a colon: `--config configs/rsb_a3.py:resnet18`; those for CIFAR-10 also take a
data set: `--config configs/cifar10_wrn_28_10.py:cifar100/wrn_40_4`.
"""
GOLDENS = ROOT / "tests" / "goldens" / "recipes.json"
VERIFIED = "settings verified, accuracy not measured"
# Settings of how data is read and reported, not of how a network learns.
LEFT_OUT = {"train_split", "eval_split", "test_split", "mean", "std", "channels"}
LEFT_OUT |= {"test_when_done", "eval_every_epochs", "log_every"}


@dataclass(frozen=True)
class Recipe:
    """A recipe with the entries Source, Expected and Time of its docstring."""

    name: str
    title: str
    promises: dict[str, str]
    config: TrainConfig


def load_recipes() -> list[Recipe]:
    """Load every file in `configs/`, by name."""
    return [_load(path) for path in sorted((ROOT / "configs").glob("*.py"))]


def page(
    recipes: Sequence[Recipe], measured: Mapping[str, str], verified: Collection[str] = ()
) -> str:
    """Return the page, in Markdown.

    Args:
      measured: the measured accuracies of each trained recipe, in words.
      verified: recipes whose settings tests compare with their reference implementation.
    """
    accuracies = [["recipe", "model", "expected", "measured by us", "source"]]
    settings = [["recipe", "what it sets"]]
    for recipe in recipes:
        name, promise = f"`{recipe.name}`", recipe.promises
        accuracies.append(
            [
                name,
                f"`{recipe.config.model.name}`",
                promise["Expected"],
                measured.get(recipe.name)
                or ("settings verified, accuracy not measured" if recipe.name in verified else ""),
                promise["Source"],
            ]
        )
        changes = differences(recipe.config.to_dict(), TrainConfig().to_dict())
        settings.append([f"`{recipe.name}`", ", ".join(changes)])
    parts = [_INTRODUCTION, "## What they reach\n", _markdown(accuracies)]
    heading = "\n## What they set\n\nLearning settings that differ from the defaults.\n"
    return "\n".join([*parts, heading, _markdown(settings), ""])


def verified_recipes(path: Path = GOLDENS) -> list[str]:
    """Return the recipes that `tests/configs/test_published_settings.py` compares."""
    return list(json.loads(path.read_text())["recipes"])


def differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Return `key value` for each setting that differs, in the order of the settings."""
    found = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += [f"`{key}.{rest[1:]}" for rest in differences(value, defaults[key])]
        elif value != defaults.get(key) and key not in LEFT_OUT:
            shown = ", ".join(map(str, value)) if isinstance(value, tuple) else value
            found.append(f"`{key}` {shown}")
    return found


def measurements(folder: Path = RESULTS) -> dict[str, str]:
    """Return the accuracies of each recipe in the results in `folder`, in words."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("accuracy-*.json")):
        result = json.loads(path.read_text())
        name = Path(result["config"].partition(":")[0]).stem
        for variant, figures in summary(result["runs"]).items():
            count = sum(run["variant"] == variant for run in result["runs"])
            for figure, (mean, least, largest) in figures.items():
                spread = f" ({least:.2%} to {largest:.2%})" if count > 1 else ""
                runs = f"{count} seeds" if count > 1 else "1 seed"
                found.setdefault(name, []).append(
                    f"{variant}{_changed(result)}, {figure}: {mean:.2%}{spread}, {runs}"
                )
    return {name: "; ".join(lines) for name, lines in found.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return mean, minimum and maximum of each accuracy by variant.

    The accuracies are those of the test split if the run has one, else of the last evaluation.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        last = run["test"] or run["evaluations"][-1]
        for key, value in last.items():
            if key.endswith("top1"):
                found.setdefault(run["variant"], {}).setdefault(key, []).append(value)
    return {
        variant: {key: (statistics.mean(all_), min(all_), max(all_)) for key, all_ in each.items()}
        for variant, each in found.items()
    }


def _changed(result: Mapping[str, Any]) -> str:
    """Return the settings that all runs changed in the recipe, in parentheses."""
    names = {each: each.partition("=")[0].rpartition(".")[2] for each in result["shared"]}
    told = [f"`{each}`" for each, name in names.items() if name not in LEFT_OUT]
    return f" ({', '.join(told)})" if told else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page."""
    if arguments if arguments is not None else sys.argv[1:]:
        raise SystemExit(__doc__)
    PAGE.write_text(page(load_recipes(), measurements(), verified_recipes()))
    return 0


def _load(path: Path) -> Recipe:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    title, _, rest = (module.__doc__ or "").strip().partition("\n")
    found = re.findall(
        r"^(Source|Expected|Time): (.*?)(?=^\w+: |\Z)", rest, re.DOTALL | re.MULTILINE
    )
    promises = {word: " ".join(text.split()).removesuffix(".") for word, text in found}
    return Recipe(path.stem, title, promises, parse(module.get_config()))


def _markdown(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    lines.insert(1, "|---" * len(rows[0]) + "|")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
