"""ResNet-50 with batches of 8,192 as in Goyal et al. 2017, "ImageNet in 1 hour".

The rate grows with the batch, 0.1 for every 256 images, and warms up over five epochs; the last
norm of a branch starts at zero; batch norm sees 32 images at a time, a worker's share in the paper.

Command: python train.py --config configs/imagenet_large_batch.py   (:resnet101 and so on)
         With less memory: --config.accumulate=16, which does not change the result.
Source: arXiv:1706.02677
Expected: 76.26 % top-1 in the paper (error 23.74 %, 90 epochs; not measured by us).
Time: 115 million images; at 2,500 images a second 13 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnet50") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 90.0

    config.model.name = model
    config.model.zero_init_last = True
    config.model.norm_group = 32

    config.data.batch_size = 8192

    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norms = False
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.scale_for = 256
    config.schedule.warmup = 5.0
    config.schedule.warmup_start = 0.1
    config.schedule.boundaries = (30.0, 60.0, 80.0)
    return config
