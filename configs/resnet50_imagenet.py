"""ResNet-50 (v1.5) on ImageNet, 90 epochs: the common baseline.

Goyal et al. 2017 (arXiv:1706.02677): batch 256 at learning rate 0.1, five epochs of warm-up,
divided by ten after 30, 60 and 80 epochs, weight decay 1e-4, the last norm of each block starts at
zero. A larger batch scales the rate: --config.data.batch_size=1024 runs at 0.4.

Command: python train.py --config configs/resnet50_imagenet.py
         (bfloat16 on accelerators: --config.model.dtype=bfloat16)
         `python -m flax_resnet prepare imagenet --help` packs the official archives; without them,
         --config.data.source=synthetic:1000 --config.steps=10 tries everything else.
Source: arXiv:1512.03385, trained for 90 epochs as https://github.com/facebookarchive/fb.resnet.torch
Expected: 76 % top-1 in the paper and in torchvision's 90 epochs (76.13 %; not measured by us).
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

    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.scale_for = 256
    config.schedule.warmup = 5.0
    config.schedule.boundaries = (30.0, 60.0, 80.0)
    return config
