"""Which operations are drawn, how often and how strong: counted over thousands of draws."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from flax_resnet.data.augment.auto import AUTO, AUTO_PAPER
from flax_resnet.data.augment.config import POLICY_NAMES, AugmentConfig
from flax_resnet.data.augment.operations import OPERATIONS
from flax_resnet.data.augment.policies import POLICIES
from flax_resnet.data.augment.severities import RAND, RAND_INCREASING, SEVERITIES, TRIVIAL_WIDE

DRAWS = 6000


def drawn(draws: int = DRAWS, **settings) -> list[list[tuple[str, float]]]:
    config, rng = AugmentConfig(**settings), np.random.default_rng(0)
    return [POLICIES[config.policy](rng, config) for _ in range(draws)]


def arguments(steps: list[list[tuple[str, float]]]) -> dict[str, np.ndarray]:
    found: dict[str, list[float]] = {}
    for name, argument in (step for image in steps for step in image):
        found.setdefault(name, []).append(argument)
    return {name: np.array(values) for name, values in found.items()}


def expect_frequency(count: int, draws: int, probability: float) -> None:
    """Return whether a count is within five standard deviations of a binomial distribution."""
    spread = (draws * probability * (1 - probability)) ** 0.5
    assert abs(count - draws * probability) <= 5 * spread


def test_every_policy_that_a_config_may_name_is_in_the_table():
    assert set(POLICIES) == set(POLICY_NAMES)


@pytest.mark.parametrize("rows", [SEVERITIES, RAND, RAND_INCREASING, TRIVIAL_WIDE])
def test_every_severity_belongs_to_an_operation(rows):
    assert {row.operation for row in rows.values()} <= set(OPERATIONS)


def test_no_policy_draws_nothing():
    assert drawn(10) == [[]] * 10


@pytest.mark.parametrize("increasing", [False, True])
def test_rand_draws_all_operations_equally_at_one_magnitude(increasing):
    steps = drawn(policy="rand", magnitude=7.0, increasing=increasing)
    rows = RAND_INCREASING if increasing else RAND
    found = arguments(steps)
    assert set(found) == {row.operation for row in rows.values()}
    for name, row in rows.items():
        values = found[row.operation]
        expect_frequency(len(values), 2 * DRAWS, 0.5 / len(rows))
        expected = {row.argument(0.7, negative) for negative in (False, True)}
        assert set(values.tolist()) == expected, name
        if row.signed:
            expect_frequency(np.sum(values > row.start), len(values), 0.5)
    lengths = Counter(map(len, steps))
    for count, probability in enumerate((0.25, 0.5, 0.25)):
        expect_frequency(lengths[count], DRAWS, probability)


@pytest.mark.parametrize("operations", [1, 3])
def test_rand_with_probability_one_applies_every_operation(operations):
    steps = drawn(500, policy="rand", operations=operations, probability=1.0)
    assert {len(image) for image in steps} == {operations}


def test_noise_on_the_magnitude_is_normal_and_clipped_at_both_ends():
    settings = {"policy": "rand", "probability": 1.0, "operations": 1}
    noisy = arguments(drawn(20000, magnitude=5.0, magnitude_std=0.5, **settings))
    levels = np.abs(noisy["rotate"]) / 30 * 10
    assert abs(levels.mean() - 5.0) < 0.1
    assert abs(levels.std() - 0.5) < 0.06
    wide = arguments(drawn(20000, magnitude=9.0, magnitude_std=9.0, **settings))
    levels = np.abs(wide["rotate"]) / 30 * 10
    assert levels.max() == 10.0 and levels.min() == 0.0
    expect_frequency(np.sum(levels == 10.0), len(levels), 0.4557)
    expect_frequency(np.sum(levels == 0.0), len(levels), 0.1587)


def test_a_larger_maximum_allows_magnitudes_above_10():
    strong = {"policy": "rand", "probability": 1.0, "magnitude": 15.0, "magnitude_max": 30.0}
    found = arguments(drawn(2000, **strong))
    assert set(found["rotate"]) == {45.0, -45.0}
    assert set(found["solarize"]) == {256.0}
    assert set(found["solarize_add"]) == {128.0}
    found = arguments(drawn(2000, increasing=True, **strong))
    assert set(found["solarize"]) == {0.0}
    assert set(np.round(found["colour"], 9)) == {0.1, 2.35}


def test_trivial_draws_one_operation_at_any_of_31_magnitudes():
    steps = drawn(20000, policy="trivial")
    assert {len(image) for image in steps} == {1}
    found = arguments(steps)
    assert set(found) == set(TRIVIAL_WIDE)
    for values in found.values():
        expect_frequency(len(values), 20000, 1 / 14)
    for name, reach in {"rotate": 135, "shear_x": 0.99, "shear_y": 0.99}.items():
        expected = np.linspace(0, reach, 31)
        expected = np.unique(np.round(np.concatenate((expected, -expected)), 9))
        np.testing.assert_allclose(np.unique(np.round(found[name], 9)), expected)
        counts = np.unique(np.abs(np.round(found[name], 9)), return_counts=True)[1]
        for count in counts:
            expect_frequency(count, len(found[name]), 1 / 31)
    assert set(found["translate_x"]) == {*map(int, np.linspace(-32, 32, 61))}
    assert Counter(found["posterize"]).keys() == {8, 7, 6, 5, 4, 3, 2}
    expect_frequency(np.sum(found["posterize"] == 2), len(found["posterize"]), 3 / 31)
    expect_frequency(np.sum(found["posterize"] == 7), len(found["posterize"]), 5 / 31)
    assert (found["solarize"].min(), found["solarize"].max()) == (0, 255)
    assert np.isclose([found["colour"].min(), found["colour"].max()], [0.01, 1.99]).all()


@pytest.mark.parametrize(("policy", "pairs"), [("auto", AUTO), ("auto_paper", AUTO_PAPER)])
def test_auto_draws_pairs_equally_and_operations_with_their_probabilities(policy, pairs):
    assert len(pairs) == 25
    found = arguments(drawn(20000, policy=policy))
    expected: Counter[str] = Counter()
    for name, probability, _ in (choice for pair in pairs for choice in pair):
        expected[SEVERITIES[name].operation] += probability / 25
    assert found.keys() <= expected.keys()
    for name, mean in expected.items():
        count = len(found.get(name, ()))
        assert abs(count - 20000 * mean) <= 5 * (20000 * mean) ** 0.5, name


def test_autos_magnitudes_are_those_of_its_table():
    found = arguments(drawn(policy="auto"))
    magnitudes = {m for pair in AUTO for name, p, m in pair if name == "rotate" and p > 0}
    assert set(np.round(np.abs(found["rotate"]), 9)) == {3.0 * m for m in magnitudes}
    assert set(found["posterize"]) == {0, 2}
    assert set(found["translate_y_relative"]) == {0.45 * 0.9, -0.45 * 0.9}
    paper = arguments(drawn(policy="auto_paper"))
    assert set(paper["posterize"]) == {6, 7}


@pytest.mark.parametrize(
    ("rows", "name", "fraction", "expected"),
    [
        (RAND, "posterize", 0.9, 3),
        (RAND, "solarize", 0.9, 230),
        (RAND, "solarize_add", 0.9, 99),
        (RAND, "contrast", 0.9, 1.72),
        (RAND, "shear_x", 0.9, 0.27),
        (RAND, "translate_x", 0.9, 0.405),
        (RAND_INCREASING, "posterize", 0.9, 1),
        (RAND_INCREASING, "solarize", 0.9, 26),
        (RAND_INCREASING, "solarize", 0.0, 256),
        (RAND_INCREASING, "contrast", 0.9, 1.81),
        (RAND_INCREASING, "contrast", 0.0, 1.0),
        (SEVERITIES, "posterize_paper", 0.6, 6),
        (TRIVIAL_WIDE, "translate_x", 0.5, 16),
        (TRIVIAL_WIDE, "posterize", 0.5, 5),
        (TRIVIAL_WIDE, "solarize", 0.1, 229.5),
    ],
)
def test_a_magnitude_has_its_published_argument(rows, name, fraction, expected):
    assert np.isclose(rows[name].argument(fraction, negative=False), expected)


def test_the_same_generator_draws_the_same():
    assert drawn(50, policy="rand") == drawn(50, policy="rand")
