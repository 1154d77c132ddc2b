"""Requests to stop: the step ends, everything is saved, the next start continues."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jax.sharding import Mesh

from flax_resnet import restore, train
from flax_resnet.training.cluster.agreement import Stopped, stop_requests
from flax_resnet.training.logging.display import Display
from flax_resnet.training.session import Session

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


def rows(workdir: Path, kind: str) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_step_saves_and_exits(
    number: signal.Signals,
    tiny_config: Configs,
    devices: Meshes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(display: Display, step: int) -> None:
        if step == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(Display, "advance", interrupt)
    with pytest.raises(Stopped) as stopped:
        train(tiny_config(steps=40, eval_every_epochs=0.2), tmp_path, mesh=devices(1))
    assert stopped.value.code == 75
    saved = restore(tmp_path, "latest", devices(1)).step
    assert 3 <= saved < 10
    assert rows(tmp_path, "train")[-1]["step"] == saved


@pytest.mark.slow
def test_a_stop_interrupts_an_evaluation_and_the_next_start_repeats_it(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(steps=12, eval_every_epochs=6 / 64)
    train(config, tmp_path / "whole", mesh=devices(1))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(Display, "evaluated_batch", lambda _: signal.raise_signal(signal.SIGTERM))
        train(config, tmp_path / "cut", mesh=devices(1))
    assert rows(tmp_path / "cut", "eval") == []
    assert restore(tmp_path / "cut", "latest", devices(1)).step == 6
    train(config, tmp_path / "cut", mesh=devices(1))
    assert rows(tmp_path / "cut", "eval") == rows(tmp_path / "whole", "eval")
    assert restore(tmp_path / "cut", 6, devices(1)).metrics["count"] == 256
    best, expected = (restore(tmp_path / name, "best", devices(1)) for name in ("cut", "whole"))
    assert (best.step, best.metrics) == (expected.step, expected.metrics)


def test_a_signal_before_the_first_step_stops_at_once(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "greet", lambda *_: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(Session, "show_images", lambda *_: pytest.fail("a step begins"))
    with pytest.raises(Stopped, match="75"):
        train(tiny_config(), tmp_path, mesh=devices(1))
    assert rows(tmp_path, "train") == []


def test_a_second_ctrl_c_interrupts_the_step() -> None:
    with stop_requests() as request, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        assert request.asked
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
