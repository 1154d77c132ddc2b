"""ResNet-50 by torchvision's second recipe: 600 epochs, TrivialAugment, mixup, cutmix, EMA.

torchvision's decay of biases (only the head's) is left out here. Its averages are updated every 32
steps with a decay that depends on batch and epochs, 1 - 2e-5 * 1024 * 32 / 600 = 0.99891; they
follow the parameters while the rate, which changes once an epoch, warms up.

Command: python train.py --config configs/torchvision_v2.py   (:resnet101 and so on)
Source: https://github.com/pytorch/vision/issues/3995
Expected: 80.86 % top-1 for ResNet-50 with torchvision's weights (101: 81.89, 152: 82.28; not
measured by us).
Time: 769 million images of 176 px; at 4,000 a second 53 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnet50") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 600.0
    config.label_smoothing = 0.1
    config.mix.mixup = 0.2
    config.mix.cutmix = 1.0
    config.average.ema = 0.99891
    config.average.ema_from = 5.0
    config.average.every = 32

    config.model.name = model

    config.data.batch_size = 1024
    config.data.image_size = 176
    config.data.eval_size = 224
    config.data.eval_crop = 224 / 232
    config.data.interpolation = "bilinear"
    config.data.augment.policy = "trivial"
    config.data.augment.fill = "black"
    config.data.augment.erase = 0.1
    config.data.augment.repeats = 4

    config.optimizer.weight_decay = 2e-5
    config.optimizer.decay_norms = False
    config.schedule.learning_rate = 0.5
    config.schedule.every = "epoch"
    config.schedule.warmup = 5.0
    config.schedule.warmup_start = 0.005
    return config
