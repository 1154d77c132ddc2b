"""The trace of some steps: which are traced, and that a run computes the same with it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import pytest
from jax.sharding import Mesh

from flax_resnet import InputError, train
from flax_resnet.training.tracing import Tracer, parse_steps

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


def traced_steps(trace: Path) -> list[int]:
    """Return the numbers of the steps that a trace names."""
    data = jax.profiler.ProfileData.from_file(str(trace))
    return [
        dict(event.stats)["step_num"]
        for plane in data.planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    ]


@pytest.mark.slow
def test_the_named_steps_are_traced_and_the_run_stays_the_same(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(steps=6)
    plain = train(config, tmp_path / "plain", mesh=devices(1))
    run = train(config, tmp_path / "traced", mesh=devices(1), profile=(3, 4), stop_after=5)
    (trace,) = (run.workdir / "tensorboard" / "plugins" / "profile").glob("*/*.xplane.pb")
    assert traced_steps(trace) == [3, 4]
    # The same command continues after an interruption.
    run = train(config, run.workdir, mesh=devices(1), profile=(3, 4))
    assert "steps 3 to 4 are done already: nothing is profiled" in capsys.readouterr().out
    chex.assert_trees_all_equal(run.variables, plain.variables)


@pytest.mark.parametrize("steps", [(0, 2), (3, 2), (9, 11)])
def test_steps_that_the_run_does_not_have_are_refused(
    steps: tuple[int, int], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"are {steps[0]}:{steps[1]}; .* TO <= 10, the last step"):
        Tracer(tmp_path, steps, length=10)


@pytest.mark.parametrize("text", ["", "5", "5:", "a:b", "1:2:3", "-1:2", "1.5:2"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected FROM:TO, two steps such as 100:105"):
        parse_steps(text)


def test_two_numbers_are_steps() -> None:
    assert parse_steps("10:12") == (10, 12)
