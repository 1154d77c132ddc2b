"""Learning rates over time: a linear warm-up, then one of the named shapes.

The first step already moves: a warm-up of W steps gives step t (counted from 0) the rate
peak * (t + 1) / W, so that step W - 1 runs at the peak (Goyal et al., arXiv:1706.02677).
"""

from collections.abc import Callable

import optax

from flax_resnet.errors import require_known
from flax_resnet.training.config import ScheduleConfig

ToSteps = Callable[[float], int]


def _cosine(config: ScheduleConfig, steps: int, to_steps: ToSteps) -> optax.Schedule:
    return optax.cosine_decay_schedule(config.learning_rate, max(steps, 1))


def _step(config: ScheduleConfig, steps: int, to_steps: ToSteps) -> optax.Schedule:
    # Boundaries count from the start of the run, this schedule from the end of the warm-up.
    start = to_steps(config.warmup)
    factors = {to_steps(boundary) - start: config.factor for boundary in config.boundaries}
    return optax.piecewise_constant_schedule(config.learning_rate, factors)


def _constant(config: ScheduleConfig, steps: int, to_steps: ToSteps) -> optax.Schedule:
    return optax.constant_schedule(config.learning_rate)


SCHEDULES: dict[str, Callable[[ScheduleConfig, int, ToSteps], optax.Schedule]] = {
    "cosine": _cosine,
    "step": _step,
    "constant": _constant,
}


def make_schedule(config: ScheduleConfig, steps: int, steps_per_epoch: float) -> optax.Schedule:
    """Return the function from step to learning rate for a run of so many steps."""
    require_known("config.schedule.name", config.name, SCHEDULES)
    require_known("config.schedule.unit", config.unit, ("epoch", "step"))

    def to_steps(time: float) -> int:
        return round(time * steps_per_epoch) if config.unit == "epoch" else round(time)

    warmup = to_steps(config.warmup)
    main = SCHEDULES[config.name](config, steps - warmup, to_steps)
    if warmup == 0:
        return main
    peak = config.learning_rate
    rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    return optax.join_schedules([rise, main], [warmup])
