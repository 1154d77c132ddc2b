"""Early stopping: when it is due, and that a resumed run stops at the same step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import pytest
from jax.sharding import Mesh

from flax_resnet import InputError, train
from flax_resnet.training.config import EarlyStoppingConfig
from flax_resnet.training.early_stopping import stopping_step
from flax_resnet.training.logging.writers import read_rows

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


def evaluations(*top1: float | None) -> list[dict[str, Any]]:
    found = [{"kind": "eval", "step": step, "top1": each} for step, each in enumerate(top1, 1)]
    return [{"kind": "train", "step": 1, "loss": 1.0}, *found]


@pytest.mark.parametrize(
    ("top1", "min_delta", "best"),
    [
        ((0.1, 0.2, 0.3), 0.0, None),
        ((0.3, 0.2, 0.3), 0.0, 1),  # as good is not better
        ((0.3, 0.2, 0.4), 0.0, None),
        ((0.3, 0.35, 0.38), 0.1, 1),  # compared with the last best one, not the one before
        ((0.3, 0.2), 0.0, None),
        ((0.3, None, 0.2), 0.0, 1),
        ((), 0.0, None),
    ],
)
def test_a_run_stops_after_two_evaluations_that_are_not_better(
    top1: tuple[float | None, ...], min_delta: float, best: int | None
) -> None:
    config = EarlyStoppingConfig(patience=2, min_delta=min_delta)
    assert stopping_step(config, evaluations(*top1)) == best


def test_without_patience_a_run_goes_on() -> None:
    assert stopping_step(EarlyStoppingConfig(), evaluations(*[0.1] * 99)) is None


@pytest.mark.slow
def test_a_stopped_run_stops_early_at_the_same_step(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nothing is 0.99 better than the first evaluation, so the third is the last one.
    stopping = {"patience": 2, "min_delta": 0.99}
    config = tiny_config(steps=40, eval_every_epochs=0.1, early_stopping=stopping)
    whole = train(config, tmp_path / "whole", mesh=devices(1))
    assert len([row for row in read_rows(tmp_path / "whole") if row["kind"] == "eval"]) == 3
    assert whole.step < 40
    assert "stopped early: 2 evaluations" in capsys.readouterr().out
    for stop in (whole.step - 1, whole.step, None):
        resumed = train(config, tmp_path / "resumed", stop_after=stop, mesh=devices(1))
    assert resumed.step == whole.step
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    rows = [read_rows(tmp_path / name) for name in ("whole", "resumed")]
    whole_rows, resumed_rows = (
        [(row["kind"], row["step"], row["loss"]) for row in each] for each in rows
    )
    assert resumed_rows == whole_rows
    assert "is finished: early" in capsys.readouterr().out
    patient = tiny_config(steps=40, eval_every_epochs=0.1, early_stopping={"patience": 9})
    further = train(patient, tmp_path / "whole", stop_after=whole.step + 1, mesh=devices(1))
    assert further.step == whole.step + 1


@pytest.mark.parametrize("name, value", [("patience", 0), ("min_delta", -0.1)])
def test_numbers_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"config.early_stopping.{name} is {value}; expected"):
        EarlyStoppingConfig(**{name: value})
