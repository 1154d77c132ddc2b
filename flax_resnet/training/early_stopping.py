"""Early stopping: a run ends once its evaluations no longer improve.

The decision depends on the evaluations alone, which are in the checkpoints, so that a resumed run
takes it at the same step.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from flax_resnet.training.checkpoints.store import rank
from flax_resnet.training.config import EarlyStoppingConfig


def stopping_step(config: EarlyStoppingConfig, rows: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the step of the best evaluation if the run ends after these rows; None: it goes on.

    Args:
      rows: of `metrics.jsonl`, in their order.
    """
    if config.patience is None:
        return None
    best, best_step, waited = -math.inf, 0, 0
    for row in rows:
        if row["kind"] != "eval":
            continue
        # A value that was not finite is None.
        found = rank({key: value for key, value in row.items() if value is not None})
        if found > best + config.min_delta:
            best, best_step, waited = found, row["step"], 0
        else:
            waited += 1
    return best_step if waited >= config.patience else None
