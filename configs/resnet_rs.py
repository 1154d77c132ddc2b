"""ResNet-RS (Bello et al. 2021): RandAugment, dropout, averaged weights, 350 epochs.

Size, magnitude, dropout and stochastic depth depend on the model, as in the authors' files.

Command: python train.py --config configs/resnet_rs.py   (:resnetrs101 and so on)
Source: arXiv:2103.07579 and https://github.com/tensorflow/tpu (models/official/resnet/resnet_rs)
Expected: 78.8 % top-1 for ResNet-RS-50 at 160 px (101 at 192 px 81.2, 152 at 256 px 83.0, 200 at
256 px 83.4, 270 at 256 px 83.8, 350 at 256 px 84.0, 420 at 320 px 84.4; not measured by us).
Time: 448 million images of 160 px; at 4,000 a second 31 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.errors import require_known
from flax_resnet.training.parsing import base_config

# Training and test size in pixels, RandAugment's magnitude, dropout, stochastic depth.
SCALES = {
    "resnetrs50": (160, 10.0, 0.25, 0.0),
    "resnetrs101": (192, 15.0, 0.25, 0.0),
    "resnetrs152": (256, 15.0, 0.25, 0.0),
    "resnetrs200": (256, 15.0, 0.25, 0.1),
    "resnetrs270": (256, 15.0, 0.25, 0.1),
    "resnetrs350": (256, 15.0, 0.25, 0.1),
    "resnetrs420": (320, 15.0, 0.4, 0.1),
}


def get_config(model: str = "resnetrs50") -> ConfigDict:
    """Return the settings for training `model`, a key of `SCALES`."""
    require_known("the model after the recipe's colon", model, SCALES)
    size, magnitude, dropout, drop_path = SCALES[model]
    config = base_config("imagenet")
    config.epochs = 350.0
    config.label_smoothing = 0.1
    config.average.ema = 0.9999
    config.average.ema_warmup = True

    config.model.name = model
    config.model.zero_init_last = True
    config.model.dropout = dropout
    config.model.drop_path = drop_path

    config.data.batch_size = 4096
    config.data.image_size = size
    config.data.augment.policy = "rand"
    config.data.augment.magnitude = magnitude
    config.data.augment.magnitude_max = 15.0
    config.data.augment.probability = 1.0

    config.optimizer.weight_decay = 4e-5
    config.optimizer.decay_norms = False
    config.schedule.learning_rate = 0.1
    config.schedule.scale_for = 256
    config.schedule.warmup = 5.0
    return config
