"""Learning rate schedules: a linear warm-up, then one of the named shapes.

In a warm-up of W steps, step t (counted from 0) has the learning rate peak * (t + 1) / W, so that
step W - 1 is at the peak (Goyal et al., arXiv:1706.02677). With `warmup_start` the rate rises from
there instead, and step W is the first at the peak. One cycle has its peak at step W - 1 in both
cases, and ends at the last step.

Time is counted in ticks: steps, or epochs if the rate changes only every epoch.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax

from flax_resnet.errors import InputError, require_known
from flax_resnet.steps.updates.config import ScheduleConfig

ToTicks = Callable[[float], float]
# torch's defaults: peak / start, start / end, and the share of the run that the rise takes.
CYCLE_START, CYCLE_END, CYCLE_RISE = 25.0, 1e4, 0.3


def _cosine(config: ScheduleConfig, peak: float, ticks: float, to_ticks: ToTicks) -> optax.Schedule:
    return optax.cosine_decay_schedule(peak, max(ticks, 1), alpha=config.end_rate / peak)


def _step(config: ScheduleConfig, peak: float, ticks: float, to_ticks: ToTicks) -> optax.Schedule:
    # Boundaries count from the start of the run, but this schedule may begin after the warm-up.
    start = to_ticks(config.warmup) if config.decay_from == "warmup" else 0
    factors = {to_ticks(boundary) - start: config.factor for boundary in config.boundaries}
    return optax.piecewise_constant_schedule(peak, factors)


def _linear(config: ScheduleConfig, peak: float, ticks: float, to_ticks: ToTicks) -> optax.Schedule:
    return optax.linear_schedule(peak, config.end_rate, max(ticks, 1))


def _polynomial(
    config: ScheduleConfig, peak: float, ticks: float, to_ticks: ToTicks
) -> optax.Schedule:
    return optax.polynomial_schedule(peak, config.end_rate, config.power, max(ticks, 1))


def _constant(
    config: ScheduleConfig, peak: float, ticks: float, to_ticks: ToTicks
) -> optax.Schedule:
    return optax.constant_schedule(peak)


SCHEDULES: dict[str, Callable[[ScheduleConfig, float, float, ToTicks], optax.Schedule]] = {
    "cosine": _cosine,
    "step": _step,
    "linear": _linear,
    "polynomial": _polynomial,
    "constant": _constant,
}


def make_schedule(
    config: ScheduleConfig, steps: int, steps_per_epoch: float, batch_size: int | None = None
) -> optax.Schedule:
    """Return the function from step to learning rate for a run of `steps` steps.

    Args:
      batch_size: the batch size of an update, needed if `config.scale_for` is set.
    """
    require_known("config.schedule.name", config.name, (*SCHEDULES, "one_cycle"))
    require_known("config.schedule.unit", config.unit, ("epoch", "step"))

    def to_ticks(time: float) -> float:
        if config.every == "epoch":
            return time if config.unit == "epoch" else time / steps_per_epoch
        return round(time * steps_per_epoch if config.unit == "epoch" else time)

    peak = scaled_rate(config, batch_size)
    if config.end_rate > peak:
        raise InputError(
            f"config.schedule.end_rate is {config.end_rate}; expected at most the peak, {peak:g} "
            "for this batch size"
        )
    ticks = steps if config.every == "step" else steps / steps_per_epoch
    warmup = to_ticks(config.warmup)
    if config.name == "one_cycle":
        schedule = _one_cycle(config, peak, ticks, warmup)
    else:
        schedule = _warmed_up(config, peak, ticks, warmup, to_ticks)
    if config.every == "step":
        return schedule
    # In float32 the first step of an epoch may come out slightly below the integer.
    return lambda step: schedule(jnp.floor(step / steps_per_epoch + 1e-4))


def scaled_rate(config: ScheduleConfig, batch_size: int | None) -> float:
    """Return the peak learning rate for a batch size (linear scaling, arXiv:1706.02677)."""
    if config.scale_for is None:
        return config.learning_rate
    if batch_size is None:
        raise InputError(
            f"config.schedule.scale_for is {config.scale_for}; expected None without a batch size"
        )
    return config.learning_rate * batch_size / config.scale_for


def _warmed_up(
    config: ScheduleConfig, peak: float, ticks: float, warmup: float, to_ticks: ToTicks
) -> optax.Schedule:
    if config.decay_from == "start":
        whole = SCHEDULES[config.name](config, peak, ticks, to_ticks)
        main: optax.Schedule = lambda step: whole(step + warmup)  # noqa: E731
    else:
        main = SCHEDULES[config.name](config, peak, ticks - warmup, to_ticks)
    if warmup == 0:
        return main
    if config.warmup_start is None:
        rise = optax.linear_schedule(peak / max(warmup, 1), peak, max(warmup - 1, 1))
    else:
        rise = optax.linear_schedule(config.warmup_start, peak, warmup)
    return optax.join_schedules([rise, main], [warmup])


def _one_cycle(config: ScheduleConfig, peak: float, ticks: float, warmup: float) -> optax.Schedule:
    """Return the schedule of one rise and fall along cosines (arXiv:1708.07120).

    Values equal those of torch's OneCycleLR. The rise takes `warmup` steps, or 30% of the run,
    which need not be an integer.
    """
    start = peak / CYCLE_START if config.warmup_start is None else config.warmup_start
    end = config.end_rate or start / CYCLE_END
    # `optax.cosine_onecycle_schedule` is one step late: a run would not reach the last value.
    top = (warmup or CYCLE_RISE * ticks) - 1
    rise, fall = top or 1, (ticks - 1 - top) or 1

    def schedule(step: Any) -> Any:
        falling = jnp.clip((step - top) / fall, 0, 1)
        return jnp.where(
            step < top,
            _along_cosine(start, peak, step / rise),
            _along_cosine(peak, end, falling),
        )

    return schedule


def _along_cosine(first: float, last: float, part: Any) -> Any:
    return last + (first - last) / 2 * (1 + jnp.cos(jnp.pi * part))
