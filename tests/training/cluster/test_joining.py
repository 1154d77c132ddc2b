"""Several processes on this machine: the same run as one process, and none waits for a lost one."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import train
from flax_resnet.errors import InputError
from flax_resnet.training.cluster.joining import joined
from tests.conftest import TINY

Configs = Callable[..., Any]
ONE_PROCESS = Path(__file__).with_name("one_process.py")
PATIENCE = 3
BOUND = 240  # seconds, on a busy machine
ALONE = """
from flax_resnet.training.cluster.joining import joined
with joined():
    import jax
    assert jax.process_count() == 1
"""


class Processes:
    """The processes of one run."""

    def __init__(self) -> None:
        self.all: list[subprocess.Popen[str]] = []

    def start(
        self,
        configs: list[Any],
        workdir: Path,
        devices: int = 1,
        stop_after: int | None = None,
    ) -> None:
        """Start a process for each config; they join over a free port."""
        with socket.create_server(("localhost", 0)) as probe:
            address = f"localhost:{probe.getsockname()[1]}"
        flags = f"--xla_force_host_platform_device_count={devices}"
        environment = os.environ | {
            "XLA_FLAGS": f"{flags} --xla_backend_optimization_level=0",
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }
        for index, config in enumerate(configs):
            settings = {
                "row": TINY,
                "cluster": (address, index, len(configs)),
                "patience": PATIENCE,
                "config": config.to_dict(),
                "workdir": str(workdir),
                "stop_after": stop_after,
            }
            command = [sys.executable, str(ONE_PROCESS), json.dumps(settings)]
            self.all.append(
                subprocess.Popen(
                    command,
                    env=environment,
                    text=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            )

    def finish(self) -> tuple[list[int], list[str]]:
        """Wait for all; return their exit statuses and their standard error."""
        said = [process.communicate(timeout=BOUND)[1] for process in self.all]
        statuses = [process.returncode for process in self.all]
        self.all = []
        return statuses, said


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Processes that do not outlive the test."""
    started = Processes()
    yield started
    for process in started.all:
        process.kill()
        process.communicate()


def wait_for_step(workdir: Path, step: int) -> None:
    metrics = workdir / "metrics.jsonl"
    until = time.monotonic() + BOUND
    while not metrics.exists() or f'"step": {step},' not in metrics.read_text():
        assert time.monotonic() < until, "the run makes no progress"
        time.sleep(0.05)


def rows(workdir: Path, kind: str) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("on_device", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_any_number_of_processes_gives_the_curve_of_one_across_restarts(
    on_device: bool, processes: Processes, tiny_config: Configs, devices: Any, tmp_path: Path
) -> None:
    config = tiny_config(steps=20, eval_every_epochs=10 / 64, data__on_device=on_device)
    train(config, tmp_path / "one", mesh=devices(1))
    for count, stop_after in ((2, 13), (1, None)):
        processes.start([config] * count, tmp_path / "many", stop_after=stop_after)
        assert processes.finish()[0] == [0] * count
    for kind in ("train", "eval"):
        one, many = rows(tmp_path / "one", kind), rows(tmp_path / "many", kind)
        assert [row["step"] for row in many] == [row["step"] for row in one]
        losses = [[row["loss"] for row in rows_] for rows_ in (many, one)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    assert [row["count"] for row in rows(tmp_path / "many", "eval")] == [256, 256]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("count", "local"), [(1, 2), (2, 2), (4, 1), (4, 2)])
def test_processes_and_devices_share_a_batch_in_any_way(
    count: int, local: int, processes: Processes, tiny_config: Configs, devices: Any, tmp_path: Path
) -> None:
    config = tiny_config(steps=10)
    train(config, tmp_path / "one", mesh=devices(1))
    processes.start([config] * count, tmp_path / "many", devices=local)
    assert processes.finish()[0] == [0] * count
    losses = [[row["loss"] for row in rows(tmp_path / name, "train")] for name in ("one", "many")]
    np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_loss_of_a_process_is_reported_by_the_others(
    victim: int, processes: Processes, tiny_config: Configs, tmp_path: Path
) -> None:
    processes.start([tiny_config(steps=10**6)] * 2, tmp_path)
    wait_for_step(tmp_path, 5)
    killed = processes.all[victim]
    killed.send_signal(signal.SIGKILL)
    statuses, said = processes.finish()
    assert statuses[victim] == -signal.SIGKILL
    assert statuses[1 - victim] == 69
    assert f"error: process {victim} of 2 (host {socket.gethostname()}, " in said[1 - victim]
    assert f"process id {killed.pid}) was lost" in said[1 - victim]


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(
    processes: Processes, tiny_config: Configs, tmp_path: Path
) -> None:
    processes.start([tiny_config(steps=10**6)] * 2, tmp_path)
    wait_for_step(tmp_path, 5)
    processes.all[1].send_signal(signal.SIGTERM)
    statuses, said = processes.finish()
    assert statuses == [75, 75], said
    saved = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir())
    assert rows(tmp_path, "train")[-1]["step"] == saved


@pytest.mark.slow
def test_an_error_in_one_process_is_reported_by_all(
    processes: Processes, tiny_config: Configs, tmp_path: Path
) -> None:
    config = tiny_config(steps=10**6)
    lost = tiny_config(steps=10**6, data__source="folder:no-such-folder")
    processes.start([config, lost], tmp_path)
    statuses, said = processes.finish()
    assert statuses == [69, 2]
    assert "process 1 of 2" in said[0]
    assert all("no-such-folder" in text for text in said)


@pytest.mark.slow
def test_processes_with_different_settings_do_not_train(
    processes: Processes, tiny_config: Configs, tmp_path: Path
) -> None:
    processes.start([tiny_config(steps=9), tiny_config(steps=10)], tmp_path)
    statuses, said = processes.finish()
    assert set(statuses) <= {2, 69}
    assert "started with different settings" in said[1] + said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("localhost:1", None, 2), "--process_id missing"),
        ((None, 0, None), "--coordinator and --process_count missing"),
        (("localhost", 0, 2), "--coordinator is 'localhost'; expected HOST:PORT"),
    ],
)
def test_incomplete_cluster_arguments_are_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message), joined(*arguments):
        pass


def test_a_single_process_joins_no_cluster() -> None:
    with joined("off"):
        pass
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=BOUND)


def test_a_cluster_is_joined_before_jax_is_used() -> None:
    jax.devices()
    with pytest.raises(InputError, match="before any JAX calls"), joined():
        pass
