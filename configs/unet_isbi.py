"""A U-Net on the membranes of ISBI 2012: electron microscopy, a class for every pixel.

Ronneberger et al. 2015 (arXiv:1505.04597) with batch norm and padding, a quarter of the paper's
width (`--config.model.base_width=64` is the paper's). The last six of the 30 labeled images of
512 x 512 pixels are held out. Value 0 of a mask is membrane, value 255 is cell.

Command: python train.py --config configs/unet_isbi.py --config.data.source=masks:PATH
         (PATH/images/0.png ... 29.png and PATH/masks/0.png ... 29.png)
         python -m flax_resnet segment runs/unet_isbi
Source: arXiv:1505.04597, at a smaller width
Expected: on the six held-out images a Dice of 0.80 for membrane and 0.95 for cell, and 7.9 % of
the pixels wrong (measured).
Time: about a quarter of an hour of CPU time, on two cores.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config() -> ConfigDict:
    """Return the settings."""
    config = base_config()
    config.task = "segmentation"
    config.steps = 500
    config.log_every = 20
    config.eval_every_epochs = 20.0
    config.dice_weight = 0.5

    config.model.name = "unet"
    config.model.base_width = 16

    config.data.source = "masks:isbi"
    config.data.train_split = "train[:24]"
    config.data.eval_split = "train[24:]"
    config.data.masks.class_names = ("membrane", "cell")
    config.data.batch_size = 4
    config.data.eval_batch_size = 2
    config.data.image_size = 256
    config.data.channels = 1
    config.data.masks.flip_vertical = True
    config.data.masks.quarter_turns = True
    config.data.masks.elastic = 6.0
    config.data.mean = (0.5,)
    config.data.std = (0.17,)

    config.optimizer.name = "adamw"
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norms = False
    config.schedule.learning_rate = 2e-3
    config.schedule.unit = "step"
    config.schedule.warmup = 20.0
    return config
