"""What the documents show is run, and what they name is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import flax_resnet
from flax_resnet.__main__ import make_parser
from flax_resnet.commands import flags

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))


def blocks(path: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run_in_order(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where they may write
    names: dict[str, object] = {}
    for block in blocks(path):
        exec(compile(block, str(path), "exec"), names)


PROGRAM = re.compile(r"(?:python -m flax_resnet|flax-resnet|python (?=train\.py)) ?(.*)")


def commands(path: Path) -> list[list[str]]:
    """Return the words of every command of ours that a block of a document begins a line with."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", path.read_text(), re.M | re.S)
    shell = "".join(block for language, block in blocks if language in ("", "bash"))
    lines = (PROGRAM.match(line) for line in shell.replace("\\\n", " ").splitlines())
    typed = [shlex.split(line[1], comments=True) for line in lines if line]
    return [["train", *words[1:]] if words[:1] == ["train.py"] else words for words in typed]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_are_understood(path: Path) -> None:
    parser = make_parser()
    for words in commands(path):
        parsed, late = parser.parse_known_args(words)
        if parsed.command in ("train", "sweep"):
            flags.parse_recipe(late if parsed.command == "train" else [f"--config={parsed.recipe}"])
        elif parsed.command != "lab":
            assert late == [], words


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_linked_files_exist(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_every_recipe_is_in_the_table_and_that_in_the_readme() -> None:
    assert "(docs/recipes.md)" in (ROOT / "README.md").read_text()
    table = (ROOT / "docs" / "recipes.md").read_text()
    for recipe in ROOT.glob("configs/*.py"):
        assert f"configs/{recipe.name}" in table


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_are_kept_without_outputs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XLA_FLAGS")  # they train
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    settings = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=settings).execute()


def test_the_reference_has_every_public_name(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "docs/api.py", tmp_path], check=True, cwd=ROOT)
    page = (tmp_path / "flax_resnet.html").read_text()
    assert [name for name in flax_resnet.__all__ if f'id="{name}"' not in page] == []
