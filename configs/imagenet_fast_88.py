"""ResNet-50 in 88 epochs that grow from 160 to 192 px, as ffcv's recipes do; evaluated at 256 px.

Their blur comes before strided convolutions, that of `resnetblur50` after them.

Command: python train.py --config configs/imagenet_fast_88.py   (:resnetblur18 and so on)
Source: https://github.com/libffcv/ffcv-imagenet (rn50_configs/rn50_88_epochs.yaml)
Expected: 78.4 % top-1 for ResNet-50 with their blur, 72.4 % for ResNet-18 (not measured by us).
Time: 113 million images of 160 to 192 px; at 4,000 a second 7.6 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.data.batches.loading import size_ramp
from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnetblur50") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 88.0
    config.label_smoothing = 0.1

    config.model.name = model

    config.data.batch_size = 4096
    config.data.image_size = 160
    config.data.sizes = size_ramp(65, 76, 160, 192)
    config.data.eval_size = 256
    config.data.eval_flip = True

    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norms = False
    config.schedule.name = "linear"
    config.schedule.learning_rate = 1.7
    config.schedule.warmup = 2.0
    return config
