"""Learning rates, value by value."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_resnet.errors import InputError
from flax_resnet.steps.updates.config import ScheduleConfig
from flax_resnet.steps.updates.schedules import SCHEDULES, make_schedule


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


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_run_shorter_than_its_warm_up_stays_below_the_peak(name: str) -> None:
    config = ScheduleConfig(name=name, learning_rate=1.0, warmup=100, boundaries=(30,))
    assert max(rates(config, 10)) == pytest.approx(0.1)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="cosine"):
        make_schedule(ScheduleConfig(name="cosin"), 1, 1.0)
    with pytest.raises(InputError, match="epoch"):
        make_schedule(ScheduleConfig(unit="epochs"), 1, 1.0)


@pytest.mark.usefixtures("x64")
def test_timms_cosine_by_epochs_value_by_value() -> None:
    config = ScheduleConfig(
        learning_rate=0.5,
        warmup=5,
        warmup_start=1e-4,
        decay_from="start",
        end_rate=1e-6,
        every="epoch",
    )
    golden = json.loads((Path(__file__).parents[2] / "goldens" / "losses.json").read_text())
    expected = golden["cosine_epochs_warmup5_base0p5_min1e6_init1e4"]
    per_epoch = 2.5
    found = rates(config, round(per_epoch * len(expected)), per_epoch)
    epochs = [math.floor(step / per_epoch) for step in range(len(found))]
    np.testing.assert_allclose(found, np.asarray(expected)[epochs], rtol=1e-12)


def test_linear_and_polynomial_fall_to_their_end() -> None:
    linear = ScheduleConfig(name="linear", learning_rate=1.0, end_rate=0.2, warmup=2)
    np.testing.assert_allclose(rates(linear, 7), [0.5, 1, 1, 0.84, 0.68, 0.52, 0.36], rtol=1e-6)
    square = ScheduleConfig(name="polynomial", learning_rate=1.0, end_rate=0.2, power=2.0)
    expected = [0.2 + 0.8 * (1 - t / 4) ** 2 for t in range(4)]
    np.testing.assert_allclose(rates(square, 4), expected, rtol=1e-6)


def test_one_cycle_rises_and_falls_along_cosines() -> None:
    config = ScheduleConfig(name="one_cycle", learning_rate=1.0, warmup=3)
    found = make_schedule(config, 12, 1.0)
    assert [float(found(step)) for step in (0, 2, 11)] == pytest.approx([0.04, 1.0, 4e-6], rel=1e-4)
    halfway = (1 + 4e-6) / 2
    assert float(found(6.5)) == pytest.approx(halfway, rel=1e-4)
    whole = make_schedule(ScheduleConfig(name="one_cycle", end_rate=0.01), 10, 1.0)
    assert float(whole(2)) == pytest.approx(0.1)
    assert float(whole(9)) == float(whole(10)) == pytest.approx(0.01)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("default", {}),
        ("changed", dict(warmup=8, warmup_start=0.05, end_rate=0.0005)),
        ("fraction", {}),  # its rise takes 11.1 steps
    ],
)
def test_torchs_one_cycle_value_by_value(name: str, arguments: dict[str, Any]) -> None:
    with np.load(Path(__file__).parents[2] / "goldens" / "updates.npz") as arrays:
        expected = arrays[f"one_cycle/{name}"]
    config = ScheduleConfig(name="one_cycle", learning_rate=0.5, unit="step", **arguments)
    np.testing.assert_allclose(rates(config, len(expected)), expected, rtol=1e-12)


@pytest.mark.parametrize("warmup", [1, 2, 10, 11])
def test_one_cycle_is_at_its_peak_where_the_rise_ends(warmup: int) -> None:
    config = ScheduleConfig(name="one_cycle", learning_rate=1.0, warmup=warmup)
    found = rates(config, 10)
    expected = min(warmup, 10) - 1
    assert np.argmax(found) == expected
    assert (found[expected] == 1.0) == (warmup <= 10)


@pytest.mark.parametrize("decay_from", ["warmup", "start"])
@pytest.mark.parametrize("batch_size", [96, 256, 1000, 2048])
def test_rates_by_epoch_change_at_the_first_step_of_an_epoch(
    batch_size: int, decay_from: str
) -> None:
    config = ScheduleConfig(
        name="step", warmup=5, boundaries=(30, 60, 80), every="epoch", decay_from=decay_from
    )
    per_epoch = 1_281_167 / batch_size
    schedule = make_schedule(config, round(90 * per_epoch), per_epoch)
    firsts = [float(schedule(math.ceil(epoch * per_epoch))) for epoch in (0, 4, 29, 30, 60, 80)]
    np.testing.assert_allclose(firsts, [0.02, 0.1, 0.1, 0.01, 1e-3, 1e-4], rtol=1e-5)


def test_one_cycle_in_a_run_shorter_than_its_rise_does_not_fall() -> None:
    config = ScheduleConfig(name="one_cycle", learning_rate=1.0, warmup=100)
    found = rates(config, 10)
    assert found == sorted(found) and found[0] == pytest.approx(0.04) and found[-1] < 0.1


def test_an_end_above_the_peak_of_this_batch_is_refused() -> None:
    config = ScheduleConfig(learning_rate=0.1, scale_for=256, end_rate=0.01)
    with pytest.raises(InputError, match=r"end_rate is 0.01; expected at most the peak, 0.003125"):
        make_schedule(config, 10, 1.0, batch_size=8)


def test_the_rate_grows_with_the_batch() -> None:
    config = ScheduleConfig(name="constant", learning_rate=0.1, scale_for=256)
    assert float(make_schedule(config, 10, 1.0, 8192)(0)) == pytest.approx(3.2)
    with pytest.raises(InputError, match="scale_for"):
        make_schedule(config, 10, 1.0)


@settings(max_examples=50)
@given(
    name=st.sampled_from([*SCHEDULES, "one_cycle"]),
    every=st.sampled_from(["step", "epoch"]),
    decay_from=st.sampled_from(["warmup", "start"]),
    warmup=st.integers(0, 4),
    epochs=st.integers(5, 12),
    steps_per_epoch=st.sampled_from([0.5, 1.0, 1.25, 7.0, 16.1]),
    end_rate=st.sampled_from([0.0, 0.01]),
)
def test_a_rate_stays_between_zero_and_its_peak_and_waits_for_epochs(
    name: str,
    every: str,
    decay_from: str,
    warmup: int,
    epochs: int,
    steps_per_epoch: float,
    end_rate: float,
) -> None:
    config = ScheduleConfig(
        name=name,
        learning_rate=0.5,
        every=every,
        decay_from=decay_from,
        warmup=warmup,
        boundaries=(3.0,),
        end_rate=end_rate,
    )
    steps = max(round(epochs * steps_per_epoch), 1)
    schedule = make_schedule(config, steps, steps_per_epoch)
    found = np.asarray(jax.vmap(schedule)(np.arange(200)))[:steps]
    assert (found >= 0).all() and (found <= 0.5 * (1 + 1e-6)).all()
    if every == "epoch":
        epoch = np.floor(np.arange(steps) / steps_per_epoch + 1e-6)
        for number in np.unique(epoch):
            assert np.ptp(found[epoch == number]) == 0


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"end_rate": -1.0}, "end_rate is -1.0"),
        ({"warmup": -1.0}, "warmup is -1.0"),
        ({"every": "week"}, "config.schedule.every"),
        ({"decay_from": "end"}, "config.schedule.decay_from"),
    ],
)
def test_invalid_settings_are_refused(wrong: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        ScheduleConfig(**wrong)
