"""The program around the commands: help, completion, errors, exit statuses."""

import json
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import pytest

from flax_resnet.__main__ import COMMANDS, load_command, main, make_parser
from flax_resnet.commands import models, reporting
from flax_resnet.commands.reporting import short_warnings
from flax_resnet.errors import InputError
from flax_resnet.training.logging import writers
from tests.hostile.settings import parse_words


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert re.search(rf"example: (flax-resnet|python -m flax_resnet) {command}\b", printed)
    make_parser([command]).parse_known_args(shlex.split(load_command(command).EXAMPLE))


def test_the_help_of_train_lists_recipes_and_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    for text in (
        "--config.KEY=VALUE",
        "--workdir ",
        "--epochs ",
        "--stop_after ",
        "rsb_a1, rsb_a2",
    ):
        assert text in printed


def test_training_without_a_recipe_names_the_recipes() -> None:
    with pytest.raises(InputError, match=r"no recipe is given; .* one of bag_of_tricks, .*digits"):
        parse_words([])


def test_the_completion_script_is_valid_bash(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    printed = capsys.readouterr().out
    assert "summary" in printed
    shell = subprocess.run(["bash", "-n"], input=printed, text=True, capture_output=True)
    assert (shell.returncode, shell.stderr) == (0, "")


@pytest.mark.parametrize(
    "error, status, told",
    [
        (ZeroDivisionError("by nothing"), 70, "internal error: ZeroDivisionError: by nothing"),
        (KeyboardInterrupt(), 75, "interrupted: the same command starts again"),
    ],
)
def test_an_error_is_reported_without_a_traceback(
    error: BaseException,
    status: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(args: object) -> NoReturn:
        raise error

    monkeypatch.setattr(models, "run", fail)
    with pytest.raises(SystemExit, match=str(status)):
        main(["models"])
    assert capsys.readouterr().err.startswith(told)
    for words in (["--debug", "models"], ["models", "--debug"]):
        with pytest.raises(type(error)):
            main(words)


def test_a_closed_pipe_is_not_an_error() -> None:
    program = f"{sys.executable} -m flax_resnet models 'resnet[13][84]' | head -n 1"
    shell = subprocess.run(["bash", "-c", program], text=True, capture_output=True, check=True)
    assert (len(shell.stdout.splitlines()), shell.stderr) == (1, "")


@pytest.mark.parametrize(
    "words, keys",
    [
        ("doctor", {"versions", "devices", "machine", "data", "problems"}),
        ("models resnet18", {"networks"}),
        ("summary cifar_resnet20", {"network", "parts"}),
        ("lab", {"experiments"}),
        ("lab walk --show-settings", {"settings"}),
        pytest.param(
            *("lab walk --out {out} blocks=3", {"finding", "numbers", "plot"}),
            marks=pytest.mark.slow,
        ),
        (
            "eval {run}",
            {"of", "data", "split", "count", "skipped", "loss", "top1", "top5"}
            | {"precision", "recall", "f1", "ece", "intervals", "classes", "reliability"},
        ),
        ("predict {run} {picture}", {"images"}),
        ("predict {run} {picture} --shards {out}", {"images", "unread", "shards"}),
        ("embed {run} {picture} --out {out}.npy", {"images", "unread", "features", "out", "files"}),
        ("export {run} --out {out}", {"path", "format", "input", "difference"}),
        ("report {run} --out {out}", {"report"}),
        ("report {run} --out {out} --suspects {out}.csv", {"report", "suspects"}),
        (
            "probe {run} synthetic:4 --train-split test[:40] --split validation[:20]",
            {"of", "data", "train_split", "split", "train_images", "images", "features", "knn"}
            | {"linear"},
        ),
    ],
)
def test_json_prints_facts_and_quiet_prints_nothing(
    words: str,
    keys: set[str],
    tiny_run: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"run": tiny_run, "picture": pictures / "a.png", "out": tmp_path / "out"}
    command = words.format_map(names).split()
    capsys.readouterr()
    main([*command, "--json"])
    assert json.loads(capsys.readouterr().out).keys() == keys
    main(["--quiet", *command])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", ["--import early models unet", "models unet --import=late"])
def test_a_module_that_registers_parts_is_imported(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import flax_resnet\nflax_resnet.register_writer('mine', print)\n"
    for module in ("early", "late"):
        (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.setattr(writers, "WRITERS", {})
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 0
    assert writers.WRITERS == {"mine": print}


def test_a_module_that_cannot_be_imported_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_parts.py").write_text("1 / 0")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    for module, message in (
        ("no_such_parts", "expected no_such_parts.py here, or the name of an installed module"),
        ("broken_parts", "--import broken_parts: ZeroDivisionError: division by zero\n"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["models", "--import", module])
        assert message in capsys.readouterr().err


def test_a_warning_is_one_line() -> None:
    usual = warnings.formatwarning
    with short_warnings():
        assert warnings.formatwarning("a\x1b", UserWarning, "f.py", 1) == "warning: a\\x1b\n"
        assert "f.py:1" in warnings.formatwarning("a", RuntimeWarning, "f.py", 1)
    assert warnings.formatwarning is usual


def test_a_long_command_shows_that_it_works(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "SECONDS_PER_SIGN", 0.01)
    main(["eval", str(tiny_run)])
    assert re.match(r"eval: 0:00:0\d so far\n", capsys.readouterr().err)
    main(["eval", str(tiny_run), "--quiet"])
    assert capsys.readouterr().err == ""


def test_an_experiment_shows_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reporting, "SECONDS_PER_SIGN", 0.01)
    main(["lab", "walk", "--out", str(tmp_path), "blocks=3"])
    assert re.search(r"lab walk, \d+ of 14 steps: 0:00:\d\d so far\n", capsys.readouterr().err)
