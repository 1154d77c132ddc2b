"""Unusable input gives one message, and exit status 2.

The cases are in tests/hostile, and docs/hostile_input.md lists them. A tilde in `says` stands for
any text of the message at that place.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flax_resnet import train
from flax_resnet.__main__ import main
from flax_resnet.commands.reporting import clear_errors
from flax_resnet.training.parsing import parse
from tests.hostile import made
from tests.hostile.case import Case
from tests.hostile.files import FILES
from tests.hostile.images import IMAGES
from tests.hostile.settings import SETTINGS

ROOT = Path(__file__).parents[1]
CASES = [*IMAGES, *FILES, *SETTINGS]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.input)
def test_the_message(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, clear_errors():
        case.run(tmp_path)
    message = capsys.readouterr().err.rpartition("error: ")[2]
    assert stopped.value.code == 2
    assert re.search(".*".join(map(re.escape, case.says.split("~"))), message, re.DOTALL), message
    assert "Traceback" not in message
    assert message.replace("\n", "").isprintable()


def test_the_guide_lists_these_cases() -> None:
    guide = (ROOT / "docs" / "hostile_input.md").read_text()
    shown = re.findall(r"^\| (.*) \| `(.*)` \|$", guide, re.MULTILINE)
    assert shown == [(case.input, case.says.replace("~", "...")) for case in CASES]


def test_nothing_that_could_run_code_is_loaded() -> None:
    for path in (ROOT / "flax_resnet").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"pickle\.loads?\b|allow_pickle=True|joblib|shelve", text), path
        loads = re.findall(r"torch\.load\(.*", text)
        assert all("weights_only=True" in load for load in loads), path


def train_on(folder: Path, **data: str) -> None:
    """Train for a step on the images of a folder, as a command does."""
    settings = dict(
        source=f"folder:{folder / 'images'}",
        batch_size=8,
        eval_batch_size=8,
        image_size=28,
        channels=1,
        mean=(0.5,),
        std=(0.5,),
        eval_split="train",
    )
    config = {"steps": 1, "model": {"name": "highway10"}, "data": settings | data}
    with clear_errors():
        train(parse(config), folder / "run")


def test_training_on_a_damaged_image_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made.odd_name(made.image_folder(tmp_path / "images") / "ant").write_bytes(b"hello")
    with pytest.raises(SystemExit, match="2"):
        train_on(tmp_path)
    assert r"a\nb\x1b[31m\xff.jpg" in capsys.readouterr().err.rpartition("error: ")[2]


def test_damaged_weights_are_an_error_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(SystemExit, match="2"):
        main(["eval", str(path), "--data", "digits"])
    message = f"error: {path} (100 bytes) is not a complete safetensors file"
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.slow
def test_training_skips_and_counts_unreadable_images(tmp_path: Path) -> None:
    folder = made.image_folder(tmp_path / "images") / "ant"
    (folder / "2.jpg").symlink_to("gone.jpg")
    (folder / "3.png").write_bytes(made.broken_animation())
    made.odd_name(folder).write_bytes(b"hello")
    train_on(tmp_path, on_error="skip")
    assert '"skipped": 3' in (tmp_path / "run" / "metrics.jsonl").read_text()
