"""What users see when they hand in what cannot work: one message each, and exit status 2.

The rows lie in tests/hostile, and docs/hostile_input.md shows them. A tilde in `says` stands for
whatever the message has at that place.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from flax_resnet.commands.reporting import clear_errors
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


def test_the_guide_has_this_table() -> None:
    guide = (ROOT / "docs" / "hostile_input.md").read_text()
    shown = re.findall(r"^\| (.*) \| `(.*)` \|$", guide, re.MULTILINE)
    assert shown == [(case.input, case.says.replace("~", "...")) for case in CASES]


def test_nothing_that_could_run_code_is_loaded() -> None:
    for path in (ROOT / "flax_resnet").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"pickle\.loads?\b|allow_pickle=True|joblib|shelve", text), path
        loads = re.findall(r"torch\.load\(.*", text)
        assert all("weights_only=True" in load for load in loads), path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


RECIPE = """
from flax_resnet.training.parsing import base_config

def get_config():
    config = base_config()
    config.steps = 1
    config.model.name = "highway10"
    config.data.batch_size, config.data.eval_batch_size = 8, 8
    config.data.image_size, config.data.channels = 28, 1
    config.data.mean, config.data.std = (0.5,), (0.5,)
    config.data.eval_split = "train"
    return config
"""


def train(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Train for a step on folder/images."""
    (folder / "recipe.py").write_text(RECIPE)
    source, workdir = f"folder:{folder / 'images'}", folder / "run"
    command = [f"--config={folder / 'recipe.py'}", f"--workdir={workdir}"]
    return run("train.py", *command, f"--config.data.source={source}", *arguments)


def test_training_on_a_damaged_image_says_which(tmp_path: Path) -> None:
    made.odd_name(made.image_folder(tmp_path / "images") / "ant").write_bytes(b"hello")
    finished = train(tmp_path)
    assert finished.returncode == 2
    assert r"a\nb\x1b[31m\xff.jpg" in finished.stderr.rpartition("error: ")[2]
    assert "Traceback" not in finished.stderr


def test_weights_that_lie_say_so_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * 100)
    finished = run("-m", "flax_resnet", "eval", str(path), "--data", "digits")
    assert finished.returncode == 2
    assert finished.stderr.startswith(
        f"error: {path} (100 bytes) is not a complete safetensors file"
    )


def test_training_skips_and_counts_what_cannot_be_read(tmp_path: Path) -> None:
    folder = made.image_folder(tmp_path / "images") / "ant"
    (folder / "2.jpg").symlink_to("gone.jpg")
    (folder / "3.png").write_bytes(made.broken_animation())
    made.odd_name(folder).write_bytes(b"hello")
    finished = train(tmp_path, "--config.data.on_error=skip")
    assert finished.returncode == 0, finished.stderr
    assert '"skipped": 3' in (tmp_path / "run" / "metrics.jsonl").read_text()
