"""Runs whose convolutions oneDNN computes: resumed bit for bit, and as accurate as XLA's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import InputError
from flax_resnet.onednn.choice import ONEDNN, VARIABLE, XLA, why_unavailable
from flax_resnet.training.logging.writers import read_rows
from flax_resnet.training.loop import train
from flax_resnet.training.workdir import CONFIG

pytestmark = pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
Configs = Callable[..., Any]
Meshes = Callable[[int], Mesh]


def losses(workdir: Path) -> np.ndarray:
    return np.asarray([row["loss"] for row in read_rows(workdir) if row["kind"] == "train"])


def test_a_stopped_run_keeps_its_kernels_and_continues_bit_for_bit(
    tiny_config: Configs,
    devices: Meshes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, ONEDNN)
    whole = train(tiny_config(), tmp_path / "whole", mesh=devices(1))
    train(tiny_config(), tmp_path / "stopped", stop_after=3, mesh=devices(1))
    assert "1 cpu device(s) with oneDNN" in capsys.readouterr().out
    monkeypatch.setenv(VARIABLE, XLA)  # Only a new run would follow this.
    resumed = train(tiny_config(), tmp_path / "stopped", mesh=devices(1))
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    assert json.loads((tmp_path / "stopped" / CONFIG).read_text())["cpu_kernels"] == ONEDNN


def test_other_kernels_are_a_change_of_settings(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    train(tiny_config(cpu_kernels=XLA), tmp_path, stop_after=2, mesh=devices(1))
    changed = tiny_config(cpu_kernels=ONEDNN)
    with pytest.raises(InputError, match=r"config.cpu_kernels: 'xla' before, 'onednn' now"):
        train(changed, tmp_path, mesh=devices(1))
    assert train(changed, tmp_path, allow_config_change=True, mesh=devices(1)).step == 8


@pytest.mark.slow
def test_a_run_of_an_earlier_version_continues_with_xlas_kernels(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config(), tmp_path, stop_after=2, mesh=devices(1))
    stored = json.loads((tmp_path / CONFIG).read_text())
    del stored["cpu_kernels"]
    (tmp_path / CONFIG).write_text(json.dumps(stored))
    monkeypatch.setenv(VARIABLE, ONEDNN)
    train(tiny_config(), tmp_path, mesh=devices(1))
    assert json.loads((tmp_path / CONFIG).read_text())["cpu_kernels"] == XLA


@pytest.mark.slow
def test_a_hundred_losses_are_those_of_xla_within_rounding(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    """Rounding decides: float64 tells apart float32 kernels from wrong ones."""
    small = dict(steps=100, schedule=dict(learning_rate=0.05))
    found = {
        kernels: losses(
            train(
                tiny_config(cpu_kernels=kernels, **small), tmp_path / kernels, mesh=devices(1)
            ).workdir
        )
        for kernels in (XLA, ONEDNN)
    }
    with jax.enable_x64(True):
        config = tiny_config(model=dict(name="tiny", dtype="float64"), **small)
        exact = losses(train(config, tmp_path / "exact", mesh=devices(1)).workdir)
    assert len(exact) == 100
    away = {kernels: np.abs(curve - exact).max() for kernels, curve in found.items()}
    assert away[ONEDNN] < max(3 * away[XLA], 1e-5), away
