"""Which operations an image goes through, drawn before a pixel is touched."""

from collections.abc import Callable
from typing import Final

import numpy as np

from flax_resnet.data.augment.auto import AUTO, AUTO_PAPER, Choice
from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.data.augment.severities import (
    RAND,
    RAND_INCREASING,
    SEVERITIES,
    TRIVIAL_LEVELS,
    TRIVIAL_WIDE,
    Severity,
)

Step = tuple[str, float]
"""The name of an operation and its argument."""
Policy = Callable[[np.random.Generator, AugmentConfig], list[Step]]

# AutoAugment's and RandAugment's nominal end of the scale.
_SCALE: Final = 10.0
_RAND_ROWS = {False: tuple(RAND.values()), True: tuple(RAND_INCREASING.values())}
_TRIVIAL_ROWS = tuple(TRIVIAL_WIDE.values())


def draw_rand(rng: np.random.Generator, config: AugmentConfig) -> list[Step]:
    """Draw as RandAugment: each operation from all of them, at one magnitude for all.

    Drawing the same one twice is allowed; see https://arxiv.org/abs/1909.13719 and
    https://arxiv.org/abs/2110.00476 for noise on the magnitude.
    """
    rows = _RAND_ROWS[config.increasing]
    steps = []
    for which, applied, sign in rng.random((config.operations, 3)).tolist():
        if applied < config.probability:
            row = rows[int(which * len(rows))]
            steps.append(_step(row, config.magnitude, sign, rng, config))
    return steps


def draw_trivial(rng: np.random.Generator, config: AugmentConfig) -> list[Step]:
    """Draw as TrivialAugment: one operation at any magnitude (https://arxiv.org/abs/2103.10158)."""
    del config
    which, level, sign = rng.random(3).tolist()
    row = _TRIVIAL_ROWS[int(which * len(_TRIVIAL_ROWS))]
    fraction = int(level * TRIVIAL_LEVELS) / (TRIVIAL_LEVELS - 1)
    return [(row.operation, row.argument(fraction, sign < 0.5))]


def _draw_pair(
    pairs: tuple[tuple[Choice, Choice], ...], rng: np.random.Generator, config: AugmentConfig
) -> list[Step]:
    which, *uniforms = rng.random(5).tolist()
    steps = []
    for at, (name, probability, magnitude) in enumerate(pairs[int(which * len(pairs))]):
        applied, sign = uniforms[2 * at : 2 * at + 2]
        if applied < probability:
            steps.append(_step(SEVERITIES[name], magnitude, sign, rng, config))
    return steps


def _step(
    row: Severity, magnitude: float, sign: float, rng: np.random.Generator, config: AugmentConfig
) -> Step:
    if config.magnitude_std > 0:
        magnitude += config.magnitude_std * rng.standard_normal()
    level = min(max(magnitude, 0.0), config.magnitude_max)
    return row.operation, row.argument(level / _SCALE, sign < 0.5)


POLICIES: dict[str, Policy] = {
    "": lambda rng, config: [],
    "auto": lambda rng, config: _draw_pair(AUTO, rng, config),
    "auto_paper": lambda rng, config: _draw_pair(AUTO_PAPER, rng, config),
    "rand": draw_rand,
    "trivial": draw_trivial,
}
