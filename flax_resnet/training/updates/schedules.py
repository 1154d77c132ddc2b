"""Learning rates over time: a linear warm-up, then one of the named shapes.

The first step already moves: a warm-up of W steps gives step t (counted from 0) the rate
peak * (t + 1) / W, so that step W - 1 runs at the peak (Goyal et al., arXiv:1706.02677). With
`warmup_start` it grows from there instead, and step W is the first at the peak.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from flax_resnet.errors import InputError, require_known
from flax_resnet.training.updates.config import ScheduleConfig

ToSteps = Callable[[float], float]
# torch's, as parts of the peak and of the start.
CYCLE_START, CYCLE_END, CYCLE_RISE = 25.0, 1e4, 0.3


def _cosine(config: ScheduleConfig, peak: float, steps: float, to_steps: ToSteps) -> optax.Schedule:
    return optax.cosine_decay_schedule(peak, max(steps, 1), alpha=config.end_rate / peak)


def _step(config: ScheduleConfig, peak: float, steps: float, to_steps: ToSteps) -> optax.Schedule:
    # Boundaries count from the start of the run, this schedule perhaps from the end of the warm-up.
    start = to_steps(config.warmup) if config.decay_from == "warmup" else 0
    factors = {to_steps(boundary) - start: config.factor for boundary in config.boundaries}
    return optax.piecewise_constant_schedule(peak, factors)


def _linear(config: ScheduleConfig, peak: float, steps: float, to_steps: ToSteps) -> optax.Schedule:
    return optax.linear_schedule(peak, config.end_rate, max(steps, 1))


def _polynomial(
    config: ScheduleConfig, peak: float, steps: float, to_steps: ToSteps
) -> optax.Schedule:
    return optax.polynomial_schedule(peak, config.end_rate, config.power, max(steps, 1))


def _constant(
    config: ScheduleConfig, peak: float, steps: float, to_steps: ToSteps
) -> optax.Schedule:
    return optax.constant_schedule(peak)


SCHEDULES: dict[str, Callable[[ScheduleConfig, float, float, ToSteps], optax.Schedule]] = {
    "cosine": _cosine,
    "step": _step,
    "linear": _linear,
    "polynomial": _polynomial,
    "constant": _constant,
}


def make_schedule(
    config: ScheduleConfig, steps: int, steps_per_epoch: float, batch_size: int | None = None
) -> optax.Schedule:
    """Return the function from step to learning rate for a run of so many steps.

    Args:
      batch_size: of an update, where the rate is for another one (`config.scale_for`).
    """
    require_known("config.schedule.name", config.name, (*SCHEDULES, "one_cycle"))
    require_known("config.schedule.unit", config.unit, ("epoch", "step"))

    def to_steps(time: float) -> float:
        steps_of_time = time * steps_per_epoch if config.unit == "epoch" else time
        return round(steps_of_time) if config.every == "step" else steps_of_time

    peak = scaled_rate(config, batch_size)
    warmup = to_steps(config.warmup)
    if config.name == "one_cycle":
        schedule = _one_cycle(config, peak, steps, warmup)
    else:
        schedule = _warmed_up(config, peak, steps, warmup, to_steps)
    if config.every == "step":
        return schedule
    # float32 may put the first step of an epoch a little before it.
    return lambda step: schedule(jnp.floor(step / steps_per_epoch + 1e-4) * steps_per_epoch)


def scaled_rate(config: ScheduleConfig, batch_size: int | None) -> float:
    """Return the peak for batches of this size (linear scaling, arXiv:1706.02677)."""
    if config.scale_for is None:
        return config.learning_rate
    if batch_size is None:
        raise InputError(
            f"config.schedule.scale_for is {config.scale_for}; expected None where no batch is"
        )
    return config.learning_rate * batch_size / config.scale_for


def _warmed_up(
    config: ScheduleConfig, peak: float, steps: int, warmup: float, to_steps: ToSteps
) -> optax.Schedule:
    if config.decay_from == "start":
        whole = SCHEDULES[config.name](config, peak, steps, to_steps)
        main: optax.Schedule = lambda step: whole(step + warmup)  # noqa: E731
    else:
        main = SCHEDULES[config.name](config, peak, steps - warmup, to_steps)
    if warmup == 0:
        return main
    if config.warmup_start is None:
        rise = optax.linear_schedule(peak / warmup, peak, max(warmup - 1, 1))
    else:
        rise = optax.linear_schedule(config.warmup_start, peak, warmup)
    return optax.join_schedules([rise, main], [warmup])


def _one_cycle(config: ScheduleConfig, peak: float, steps: int, warmup: float) -> optax.Schedule:
    """Rise and fall along cosines (arXiv:1708.07120), over `warmup` steps or three tenths."""
    start = peak / CYCLE_START if config.warmup_start is None else config.warmup_start
    return optax.cosine_onecycle_schedule(
        max(steps, 1),
        peak,
        pct_start=warmup / max(steps, 1) if warmup else CYCLE_RISE,
        div_factor=peak / start,
        final_div_factor=start / config.end_rate if config.end_rate else CYCLE_END,
    )
