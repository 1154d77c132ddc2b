"""Random changes of brightness, contrast, saturation and hue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from flax_resnet.data.augment import colour, lookup
from flax_resnet.data.augment.config import AugmentConfig

# In the order of AugmentConfig.jitter.
CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": lookup.brightness,
    "contrast": lookup.contrast,
    "saturation": colour.saturation,
    "hue": colour.hue,
}


def draw_jitter(rng: np.random.Generator, config: AugmentConfig) -> list[tuple[str, float]]:
    """Draw the names and arguments of changes, in random order; strengths of 0 are omitted.

    Factors are uniform from max(0, 1 - x) to 1 + x, and rotations of hue from -x to x.
    """
    if rng.random() >= config.jitter_probability:
        return []
    steps = []
    uniforms = rng.random(4).tolist()
    for name, strength, uniform in zip(CHANGES, config.jitter, uniforms, strict=True):
        if strength > 0:
            low, high = max(0.0, 1.0 - strength), 1.0 + strength
            if name == "hue":
                low, high = -strength, strength
            steps.append((name, low + (high - low) * uniform))
    return [steps[at] for at in rng.permutation(len(steps)).tolist()]
