"""The learning-rate range test: the rates, when it ends, and what it suggests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import InputError, find_learning_rate
from flax_resnet.training.learning_rates import RangeTest

RATES = 10.0 ** np.arange(-6, 2, 0.1)
# Lowest at a rate of 1, and infinite at the end.
VALLEY = np.abs(np.log10(RATES)) + 1.0


def test_a_tenth_of_the_rate_with_the_lowest_loss_is_suggested() -> None:
    assert RangeTest(RATES, VALLEY).suggested == pytest.approx(0.1)


def test_a_loss_that_is_not_finite_hides_nothing() -> None:
    for last in (np.inf, np.nan):
        assert RangeTest(RATES, np.append(VALLEY[:-1], last)).suggested == pytest.approx(0.1)


@pytest.mark.parametrize("losses", [RATES, -RATES, np.full(len(RATES), np.nan)])
def test_a_loss_without_a_valley_suggests_nothing(losses: np.ndarray) -> None:
    found = RangeTest(RATES, losses)
    assert found.suggested is None
    assert found.setting is None


def test_the_setting_is_for_the_batch_size_that_it_is_scaled_for() -> None:
    assert RangeTest(RATES, VALLEY, scale=0.5).setting == pytest.approx(0.2)


def test_one_noisy_loss_does_not_decide() -> None:
    noisy = VALLEY.copy()
    noisy[5] = 0.5
    assert RangeTest(RATES, noisy).suggested == pytest.approx(0.1)


def test_the_rate_grows_by_the_same_factor_until_the_loss_diverges(
    tiny_config: Callable[..., Any],
    devices: Callable[[int], Mesh],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config(schedule__scale_for=32, optimizer__momentum=0.0)
    found = find_learning_rate(config, low=1e-6, high=1e8, steps=15, mesh=devices(1))
    np.testing.assert_allclose(found.rates, 10.0 ** np.arange(-6, len(found.rates) - 6))
    assert 8 < len(found.rates) == len(found.losses) < 15
    assert not found.losses[-1] <= 2 * found.losses[0]
    assert found.scale == 0.5  # 16 images a batch
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"low": 1.0, "high": 0.1}, "are 1 to 0.1; expected 0 < low < high"),
        ({"low": 0.0}, "are 0 to 10"),
        ({"steps": 8}, "steps is 8; expected more than 8"),
    ],
)
def test_a_range_that_is_none_is_an_error(
    changes: dict[str, Any], told: str, tiny_config: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=told):
        find_learning_rate(tiny_config(), **changes)
