"""Train a network: python train.py --config configs/digits.py [--config.KEY=VALUE ...]."""

import sys

from flax_resnet.commands.train import main

if __name__ == "__main__":
    main(sys.argv)
