"""ResNet-50 by procedure A3 of "ResNet strikes back" (Wightman et al. 2021).

It trains at 160 px and is evaluated at 224.

Command: python train.py --config configs/rsb_a3.py   (:resnet18 and so on)
Source: arXiv:2110.00476, table 2
Expected: 78.1 % top-1 for ResNet-50 with timm's weights (78.05;
ResNet-18 68.25, 101 79.84, 152 80.55; not measured by us).
Time: 128 million images of 160 px; at 4,800 a second 7.5 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnet50") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 100.0
    config.loss = "sigmoid"
    config.target_threshold = 0.2
    config.mix.mixup = 0.1
    config.mix.cutmix = 1.0

    config.model.name = model
    config.model.zero_init_last = True

    config.data.batch_size = 2048
    config.data.image_size = 160
    config.data.eval_size = 224
    config.data.interpolation = "random"
    config.data.eval_crop = 0.95
    config.data.augment.policy = "rand"
    config.data.augment.magnitude = 6.0
    config.data.augment.magnitude_std = 0.5
    config.data.augment.increasing = True

    config.optimizer.name = "lamb"
    config.optimizer.weight_decay = 0.02
    config.optimizer.decay_norms = False
    config.schedule.learning_rate = 8e-3
    config.schedule.every = "epoch"
    config.schedule.warmup = 5.0
    config.schedule.warmup_start = 1e-4
    config.schedule.decay_from = "start"
    config.schedule.end_rate = 1e-6
    return config
