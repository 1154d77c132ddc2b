"""Inference of ours, as trained and with norms folded, beside torch's: eager, compiled, frozen.

Run: python -m benchmarks.inference --models resnet50 cifar_resnet20. On a CPU unless there is a
GPU. `frozen` is torch.compile with weights as constants, which folds norms too.
"""

import sys
from collections.abc import Sequence

from benchmarks.side_by_side import compare

PARTS = (
    "jax-inference",
    "jax-folded-inference",
    "torch-eager-inference",
    "torch-compile-inference",
    "torch-frozen-inference",
    "jax-ceilings",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON, print tables; return 1 if a part failed, else 0."""
    return compare("inference", __doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
