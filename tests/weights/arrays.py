"""A state dict, and its comparison with another one."""

from typing import Any

import numpy as np

WEIGHTS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "bn1.num_batches_tracked": np.asarray(7),
}


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Return whether two state dicts have the same keys, dtypes, shapes and values."""
    return first.keys() == second.keys() and all(
        (first[k].dtype, first[k].shape) == (second[k].dtype, second[k].shape)
        and np.array_equal(first[k], second[k])
        for k in first
    )
