"""Train a network: python train.py --config configs/digits.py [--config.KEY=VALUE ...]."""

import sys

from flax_resnet.allocator import keep_freed_memory

if __name__ == "__main__":
    keep_freed_memory()  # before jax is imported

    from flax_resnet.commands.train import main

    main(sys.argv)
