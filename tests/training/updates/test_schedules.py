"""Learning rates: value by value."""

import math

import numpy as np
import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.config import ScheduleConfig
from flax_resnet.training.updates.schedules import make_schedule


def rates(config: ScheduleConfig, steps: int, steps_per_epoch: float = 1.0) -> list[float]:
    schedule = make_schedule(config, steps, steps_per_epoch)
    return [float(schedule(step)) for step in range(steps)]


def test_the_warm_up_moves_at_once_and_ends_at_the_peak() -> None:
    config = ScheduleConfig(name="constant", learning_rate=1.0, warmup=4)
    np.testing.assert_allclose(rates(config, 6), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0], rtol=1e-6)


def test_cosine_falls_from_the_peak_to_zero_over_what_the_warm_up_leaves() -> None:
    config = ScheduleConfig(name="cosine", learning_rate=0.5, warmup=2)
    expected = [0.25, 0.5] + [0.25 * (1 + math.cos(math.pi * t / 8)) for t in range(8)]
    np.testing.assert_allclose(rates(config, 10), expected, rtol=1e-5, atol=1e-8)


def test_steps_divide_at_boundaries_counted_from_the_start() -> None:
    config = ScheduleConfig(
        name="step", learning_rate=1.0, warmup=2, boundaries=(4, 6), unit="step"
    )
    expected = [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    np.testing.assert_allclose(rates(config, 8), expected, rtol=1e-5)


def test_epochs_become_steps() -> None:
    by_epoch = ScheduleConfig(name="step", learning_rate=1.0, warmup=1, boundaries=(2,))
    by_step = ScheduleConfig(name="step", learning_rate=1.0, warmup=3, boundaries=(5,), unit="step")
    assert rates(by_epoch, 9, steps_per_epoch=2.5)[5:] == rates(by_step, 9, 2.5)[5:]


@pytest.mark.parametrize("name", ["cosine", "step", "constant"])
def test_a_run_shorter_than_its_warm_up_stays_below_the_peak(name: str) -> None:
    config = ScheduleConfig(name=name, learning_rate=1.0, warmup=100, boundaries=(30,))
    assert max(rates(config, 10)) == pytest.approx(0.1)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="cosine"):
        make_schedule(ScheduleConfig(name="cosin"), 1, 1.0)
    with pytest.raises(InputError, match="epoch"):
        make_schedule(ScheduleConfig(unit="epochs"), 1, 1.0)
