"""Packages import downwards only: each row names the packages that one may import."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import flax_resnet

ROOT = Path(flax_resnet.__file__).parent
BASE = {"allocator", "errors", "files", "hub", "interrupts", "version"}
TRAINING = BASE | {"onednn", "models", "weights", "data", "steps", "training"}
INFERENCE = TRAINING | {"inference"}
EVERYTHING = INFERENCE | {"finetune", "lab", "export", "report", "serving"}
MAY_IMPORT = {
    "allocator": set(),
    "errors": set(),
    "files": {"errors"},
    "hub": {"errors"},
    "interrupts": set(),
    "version": set(),
    "onednn": {"errors"},
    "models": {"errors", "onednn"},
    "weights": {"models", "errors", "files", "hub"},
    "data": {"models", "errors", "files", "hub", "interrupts"},
    "steps": {"models", "onednn", "errors"},
    "training": TRAINING,
    "finetune": TRAINING,
    "inference": TRAINING,
    # Grad-CAM, which serving needs as well, is part of inference.
    "lab": INFERENCE,
    "export": INFERENCE,
    # The name of the images that a run was started with is part of fine-tuning.
    # A model card lies beside the weights that are exported for the hub.
    "report": INFERENCE | {"finetune", "export"},
    "serving": INFERENCE,
    "commands": EVERYTHING,
    "__main__": {"allocator", "commands", "errors", "interrupts", "version"},
    "__init__": INFERENCE | {"report"},
}


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every package of flax_resnet that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # Modules that are imported by name when they are needed.
            names = [node.value] if node.value.startswith("flax_resnet.") else []
        else:
            continue
        for name in names:
            first, *rest = name.split(".")
            if first == "flax_resnet" and rest:
                yield rest[0], node.lineno


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    single = ROOT / f"{package}.py"
    paths = [single] if single.is_file() else sorted((ROOT / package).rglob("*.py"))
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in paths
        for name, line in imported(ast.parse(path.read_text()))
        if name in MAY_IMPORT and name not in MAY_IMPORT[package] | {package}
    ]
    assert not wrong


def test_every_package_has_a_row() -> None:
    found = {path.stem for path in ROOT.glob("*.py")}
    found |= {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found == MAY_IMPORT.keys()


def test_the_rows_have_no_cycle() -> None:
    done: set[str] = set()
    while left := MAY_IMPORT.keys() - done:
        ready = {name for name in left if MAY_IMPORT[name] <= done | {name}}
        assert ready, f"{sorted(left)} import each other"
        done |= ready
