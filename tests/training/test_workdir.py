"""A folder belongs to one run at a time, and says so."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.workdir import claimed_workdir

Configs = Callable[..., Any]
HOLD = """
import sys, time
from pathlib import Path
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.workdir import claimed_workdir
with claimed_workdir(Path(sys.argv[1]), TrainConfig()):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_run_is_told_who_holds_the_folder(tiny_config: Configs, tmp_path: Path) -> None:
    config = tiny_config()
    with claimed_workdir(tmp_path, config):
        owner = rf"another run is in .*: process {os.getpid()} on host {socket.gethostname()}"
        with pytest.raises(InputError, match=owner), claimed_workdir(tmp_path, config):
            pass
    with claimed_workdir(tmp_path, config):
        pass


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    from flax_resnet.training.config import TrainConfig

    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InputError, match=f"process {holder.pid} on host"):
        claimed_workdir(tmp_path, TrainConfig()).__enter__()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with claimed_workdir(tmp_path, TrainConfig()):
        pass


def test_a_refused_claim_changes_nothing(tiny_config: Configs, tmp_path: Path) -> None:
    with claimed_workdir(tmp_path, tiny_config()):
        before = (tmp_path / "config.json").read_text()
    with pytest.raises(InputError, match="seed: 0 there, 1 here"):
        claimed_workdir(tmp_path, tiny_config(seed=1)).__enter__()
    assert (tmp_path / "config.json").read_text() == before


def test_a_damaged_config_is_named(tiny_config: Configs, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        claimed_workdir(tmp_path, tiny_config()).__enter__()


@pytest.mark.parametrize("folder", ["/proc/run", "/dev/null/run"])
def test_a_folder_that_cannot_be_written_to_is_an_error(tiny_config: Configs, folder: str) -> None:
    with pytest.raises(InputError, match=r"cannot be written to: .*another --workdir"):
        claimed_workdir(Path(folder), tiny_config()).__enter__()
