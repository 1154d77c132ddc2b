"""Train a network: python train.py --config configs/digits.py [--config.KEY=VALUE ...]."""

import sys

from flax_resnet.allocator import keep_freed_memory
from flax_resnet.interrupts import end_at_once

if __name__ == "__main__":
    end_at_once()
    keep_freed_memory()  # before jax is imported

    from flax_resnet.commands.train import main

    main(sys.argv)
