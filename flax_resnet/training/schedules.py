"""Learning rates over time: a linear warm-up, then one of the named shapes.

The first step already moves: a warm-up of W steps gives step t (counted from 0) the rate
peak * (t + 1) / W, so that step W - 1 runs at the peak (Goyal et al., arXiv:1706.02677).
"""

from collections.abc import Callable

import optax

from flax_resnet.errors import require_known
from flax_resnet.training.config import ScheduleConfig


def _cosine(config: ScheduleConfig, steps: int, steps_per_unit: float) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, max(steps, 1))


def _step(config: ScheduleConfig, steps: int, steps_per_unit: float) -> optax.Schedule:
    warmup = round(config.warmup * steps_per_unit)
    # Boundaries count from the start of the run, this schedule from the end of the warm-up.
    factors = {
        round(boundary * steps_per_unit) - warmup: config.factor for boundary in config.boundaries
    }
    return optax.piecewise_constant_schedule(config.learning_rate, factors)


def _constant(config: ScheduleConfig, steps: int, steps_per_unit: float) -> optax.Schedule:
    return optax.constant_schedule(config.learning_rate)


SCHEDULES: dict[str, Callable[[ScheduleConfig, int, float], optax.Schedule]] = {
    "cosine": _cosine,
    "step": _step,
    "constant": _constant,
}


def make_schedule(
    config: ScheduleConfig, steps: int, steps_per_unit: float = 1.0
) -> optax.Schedule:
    """Return the function from step to learning rate.

    Args:
      steps: length of the run.
      steps_per_unit: steps in one unit of `warmup` and `boundaries` (an epoch, or one step).
    """
    require_known("config.schedule.name", config.name, SCHEDULES)
    warmup = round(config.warmup * steps_per_unit)
    main = SCHEDULES[config.name](config, steps - warmup, steps_per_unit)
    if warmup == 0:
        return main
    peak = config.learning_rate
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])
