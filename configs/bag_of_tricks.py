"""ResNet-50-D with the refinements of He et al. 2018, "Bag of Tricks": mixup, smoothing, cosine.

The paper's noise along the principal components of color and its distillation (79.29 %) are left
out. To add a teacher at the paper's temperature:
--config.distill.teacher=resnet152d.ra2_in1k --config.distill.weight=0.5
--config.distill.temperature=20 (the paper adds the two losses, this is their mean).

Command: python train.py --config configs/bag_of_tricks.py   (:resnet101d and so on)
Source: arXiv:1812.01187, table 6
Expected: 79.15 % top-1 in the paper with mixup and without a teacher (not measured by us).
Time: 256 million images; at 2,500 images a second 28 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnet50d") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 200.0
    config.label_smoothing = 0.1
    config.mix.mixup = 0.2

    config.model.name = model
    config.model.zero_init_last = True

    config.data.batch_size = 1024
    config.data.augment.jitter = (0.4, 0.4, 0.4, 0.0)

    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norms = False
    config.schedule.learning_rate = 0.1
    config.schedule.scale_for = 256
    config.schedule.warmup = 5.0
    return config
