"""Metrics of a task over a whole split, with every example counted once."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from flax_resnet.data import DataConfig, Source, eval_batches
from flax_resnet.steps.tasks.table import CLASSIFICATION, Batch, Metrics, Task
from flax_resnet.training.cluster.agreement import StopRequest
from flax_resnet.training.on_device import DeviceData

Evaluate = Callable[[dict[str, Any], Batch], Metrics]


def divisible_eval_batch(config: DataConfig, mesh: Mesh) -> DataConfig:
    """Round the evaluation batch up to a multiple of the devices; this does not change metrics."""
    size = -(-config.eval_batch_size // mesh.size) * mesh.size
    return dataclasses.replace(config, eval_batch_size=size)


def evaluate(
    eval_step: Evaluate,
    variables: dict[str, Any],
    source: Source,
    config: DataConfig,
    mesh: Mesh,
    on_batch: Callable[[], None] = lambda: None,
    task: Task = CLASSIFICATION,
    request: StopRequest | None = None,
    others: Mapping[str, dict[str, Any]] | None = None,
    device_data: DeviceData | None = None,
) -> dict[str, float]:
    """Return count, skipped and the metrics of the task (loss, top1, top5) over all of `source`.

    The result is empty if `request` asks for a stop before the end.

    Padding rows and records that cannot be decoded do not count in any metric; `skipped`
    counts the latter, and `unlabeled` the images without a label where several are allowed. The
    metrics do not depend on batch size, devices or processes.

    Args:
      on_batch: called after each batch, for a progress bar.
      others: more variables to evaluate on the same batches, by the prefix of their metrics.
      device_data: the examples of `source`, where they are stored on the devices.
    """
    config = divisible_eval_batch(config, mesh)
    if device_data is not None:
        batches: Any = device_data.evaluation(config)
    else:
        batches = eval_batches(
            source, config, process_index=jax.process_index(), process_count=jax.process_count()
        )
    request = request or StopRequest()
    several = {"": variables, **(others or {})}
    totals: dict[str, dict[str, Any]] = {prefix: {} for prefix in several}
    pending: list[dict[str, Metrics]] = []
    try:
        for batch in batches:
            on_device = request.put_batch(batch, mesh)
            pending.append({key: eval_step(each, on_device) for key, each in several.items()})
            if len(pending) > 1:  # read one batch late, so that the device always has work
                _add(totals, pending.pop(0), request, task.joined)
            on_batch()
            if request.asked:
                return {}
    finally:
        batches.close()
    for sums in pending:
        _add(totals, sums, request, task.joined)
    for total in totals.values():
        total |= {key: np.concatenate(total[key]) for key in task.joined}
    count = float(totals[""]["count"])
    figures = {
        prefix + name: figure
        for prefix, sums in totals.items()
        for name, figure in task.metrics(sums, source.class_names).items()
    }
    skipped = len(source) - count - figures.get("unlabeled", 0)
    return {"count": count, "skipped": skipped, **figures}


def _add(
    totals: dict[str, dict[str, Any]],
    sums: dict[str, Metrics],
    request: StopRequest,
    joined: tuple[str, ...],
) -> None:
    for prefix, values in jax.device_get(sums).items():
        request.take_outcome(values)
        total = totals[prefix]
        for key, value in values.items():
            if key in joined:
                total.setdefault(key, []).append(value)
            else:
                total[key] = total.get(key, np.zeros(())) + np.asarray(value, np.float64)
