"""train.py's command line, as a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_train(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "train.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/digits.py", "--config.data.batchsize=3"], "'batch_size'"),
        (["--config=configs/digits.py", "--config.data.batch_size=x"], "batch_size=x"),
        (["--config=configs/digit.py"], "configs/digits.py"),
        ([], "--config"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_error(
    arguments: list[str], message: str
) -> None:
    finished = run_train(*arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: ")
    assert message in finished.stderr
    assert "Traceback" not in finished.stderr


def test_an_error_inside_a_config_names_file_and_line(tmp_path: Path) -> None:
    config = tmp_path / "broken.py"
    config.write_text("def get_config():\n    return undefined\n")
    finished = run_train(f"--config={config}")
    assert finished.returncode == 2
    assert "broken.py, line 2: name 'undefined' is not defined" in finished.stderr
