"""Worker processes start without the user's script, whatever signals arrive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from flax_resnet.data.batches.processes import worker_context

# The signals reach all processes of the group while the workers are started.
SCRIPT = """
import os, signal, threading
from flax_resnet.data import DataConfig, open_source, train_batches

print("runs")
received = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: received.append(number))
config = DataConfig(source="synthetic", image_size=8, batch_size=16, workers=2)
source = open_source(config, "train")
black = lambda image, rng: 0 * image  # workers get it by value
batches = train_batches(source, config, seed=0, num_batches=4, transform=black)
ended = threading.Event()

def interrupt():
    while not ended.wait(0.05):
        os.killpg(0, signal.SIGINT)
        os.killpg(0, signal.SIGTERM)

thread = threading.Thread(target=interrupt)
thread.start()
print([int(batch["image"].max()) for batch in batches], bool(received))
ended.set()
thread.join()
batches.close()
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["-", "script.py"])
def test_a_script_needs_no_guard_and_workers_survive_signals(way: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, way],
        input=SCRIPT,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs\n[0, 0, 0, 0] True\n", "")


def blocked() -> set[signal.Signals]:
    """Return the signals that this process does not receive."""
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_a_pool_starts_its_processes_in_the_same_way() -> None:
    with ProcessPoolExecutor(1, worker_context()) as pool:
        assert {signal.SIGINT, signal.SIGTERM} <= pool.submit(blocked).result()
    assert blocked() == set()
