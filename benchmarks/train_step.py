"""A training step of ours beside torch's, eager and compiled, channels last, in turns.

Run: python -m benchmarks.train_step --models resnet50 cifar_resnet20. On a CPU unless there is a
GPU. The peers are timm's networks, and for CIFAR's a short module in torch.
"""

import sys
from collections.abc import Sequence

from benchmarks.side_by_side import compare

PARTS = ("jax-train", "torch-eager-train", "torch-compile-train", "jax-ceilings")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure in turns, write the JSON, print tables; return 1 if a part failed, else 0."""
    return compare("train_step", __doc__, PARTS, arguments)


if __name__ == "__main__":
    sys.exit(main())
