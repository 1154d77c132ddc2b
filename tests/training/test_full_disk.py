"""A full disk: one clear error, nothing half-written, and the run continues once there is room."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Runs in a user namespace of its own, where mounting needs no rights: argument 1 is the folder.
FILL_AND_FREE = """
mount -t tmpfs -o size=6m tmpfs "$1" || exit 77
run="$2 train.py --config configs/digits.py --config.epochs=2 --config.checkpoint.every_steps=2
  --config.data.workers=0 --workdir $1/run"
$run
echo "status $?"
ls -A "$1/run/checkpoints"
mount -o remount,size=100m "$1"
$run
echo "status $?"
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs in a namespace of Linux")
def test_a_run_survives_a_full_disk(tmp_path: Path) -> None:
    command = ["unshare", "-Urm", "sh", "-c", FILL_AND_FREE, "sh", str(tmp_path), sys.executable]
    environment = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "status" not in done.stdout:
        pytest.skip("no namespaces here")
    freed = done.stdout.partition("status 2")[2]
    assert "flax_resnet/" not in done.stderr  # no traceback of ours
    assert done.stderr.count("error: ") == 1
    assert "could not be written to" in done.stderr
    assert "run the same command again" in done.stderr
    assert "step 41" in freed
    assert freed.endswith("status 0\n")
