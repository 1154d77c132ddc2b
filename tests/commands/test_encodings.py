"""Every command prints to any terminal and pipe, and reads any name from one."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest

from flax_resnet.__main__ import main


def output(words: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Return what a command writes to a standard output of this encoding."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        main(words)
        stream.flush()
    assert stream.errors == "strict"
    return raw.getvalue()


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "command",
    [
        "predict {run} {picture} --csv -",
        "predict {run} {picture} --jsonl -",
        "predict {run} {picture}",
        "predict {run} {picture} --quiet",
        "eval {run}",
        "embed {run} {picture} --out {out}/ü🐞.npy",
        "export {run} --out {out}/ü🐞",
        "report {run} --out {out}/ü🐞.html",
        "models resnet18",
        "summary cifar_resnet20",
        "lab",
    ],
)
def test_a_command_prints_to_any_terminal(
    command: str,
    encoding: str,
    tiny_run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "Läufe 🐞"
    run.symlink_to(tiny_run)
    picture = shutil.copy(pictures / "a.png", tmp_path / "Käfer🐞.png")
    names = {"run": run, "picture": picture, "out": tmp_path}
    words = [word.format_map(names) for word in command.split()]
    assert output(words, encoding, monkeypatch) or "--quiet" in words


def test_a_name_that_is_not_utf8_passes_through_pipes_unchanged(
    tiny_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    shutil.copy(pictures / "a.png", os.fsdecode(name))
    lines = io.TextIOWrapper(io.BytesIO(name + b"\n"), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", lines)
    table = output(["predict", str(tiny_run), "-", "--csv", "-"], "utf-8", monkeypatch)
    assert table.splitlines()[1].startswith(name + b",")


def test_a_character_that_an_encoding_lacks_is_escaped(
    tiny_run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = shutil.copy(pictures / "a.png", tmp_path / "Käfer🐞.png")
    table = output(["predict", str(tiny_run), str(picture), "--csv", "-"], "ascii", monkeypatch)
    assert rb"K\xe4fer\U0001f41e.png," in table
