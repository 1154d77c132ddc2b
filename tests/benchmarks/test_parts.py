import dataclasses
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.case import Case
from benchmarks.parts import missing_modules, run_part

CASE = Case(phase="train", mode="jit", platform="cpu", batch_size=3, image_size=4)


@pytest.fixture
def part(tmp_path, monkeypatch):
    """Run a program as a part of a benchmark."""

    def run(program, limit_s=60.0):
        (tmp_path / "a_part.py").write_text(program)
        paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        return run_part("a_part", CASE, limit_s)

    return run


def test_a_part_receives_its_case_and_returns_its_outcome(part):
    outcome = part(
        "from benchmarks.case import child_main, inputs\n"
        "def run(case, began):\n"
        "    images, labels = inputs(case)\n"
        "    return {'shape': images.shape, 'labels': len(labels), 'phase': case.phase}\n"
        "child_main(run)\n"
    )
    assert outcome.pop("started_at") <= time.monotonic()
    assert outcome == {"status": "done", "shape": [3, 4, 4, 3], "labels": 3, "phase": "train"}


def test_a_failing_part_reports_its_error(part):
    outcome = part("raise RuntimeError('out of memory')")
    assert outcome["status"] == "failed"
    assert outcome["reason"] == "RuntimeError: out of memory"
    assert "Traceback" in outcome["log"][0]


def test_a_killed_part_reports_its_signal(part):
    outcome = part("import os; os.kill(os.getpid(), 9)")
    assert outcome["reason"] == "ended by signal 9"


@pytest.mark.slow
def test_a_hanging_part_is_killed_with_its_children(part, tmp_path):
    program = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    outcome = part(program, limit_s=3.0)
    assert (outcome["status"], outcome["reason"]) == ("failed", "stopped after 3 s")
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 20
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_missing_modules_are_found_without_importing():
    assert missing_modules(["json", "no_such_module"]) == ["no_such_module"]


def test_missing_modules_of_another_interpreter_are_found_too(tmp_path):
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    assert missing_modules(["json", "no_such_module"], str(other)) == ["no_such_module"]


def test_a_missing_interpreter_is_named(tmp_path):
    with pytest.raises(SystemExit, match="nowhere is not a Python interpreter"):
        missing_modules(["json"], str(tmp_path / "nowhere"))


def test_a_cache_is_reused_and_without_one_compilers_start_cold(part, tmp_path, monkeypatch):
    names = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR", "TRITON_CACHE_DIR")
    program = (
        "import os\n"
        "from benchmarks.case import child_main\n"
        f"child_main(lambda case, began: {{name: os.environ.get(name) for name in {names}}})\n"
    )
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    cold = part(program)
    assert cold["JAX_ENABLE_COMPILATION_CACHE"] == "false"
    assert cold["JAX_COMPILATION_CACHE_DIR"] is None
    monkeypatch.setattr(sys.modules[__name__], "CASE", dataclasses.replace(CASE, cache="kept"))
    warm = part(program)
    assert [warm[name] for name in names] == ["true", "kept/jax", "kept/triton_cache_dir"]
