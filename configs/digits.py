"""A small ResNet on scikit-learn's 1,797 handwritten digits (8x8): the demo.

Command: python train.py --config configs/digits.py
Source: ours
Expected: about 99 % of the 360 test digits, a random fifth of each class: the test has other digits
of the same writers.
Time: under a minute on two CPU cores.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config() -> ConfigDict:
    """Return the settings."""
    config = base_config()
    config.epochs = 60.0
    config.log_every = 20
    config.eval_every_epochs = 10.0
    config.label_smoothing = 0.1

    config.model.name = "cifar_resnet20"
    config.model.zero_init_last = True

    config.data.source = "digits"
    config.data.train_split = "train[:90%]"
    config.data.eval_split = "train[90%:]"
    config.data.test_split = "test"
    config.data.batch_size = 64
    config.data.image_size = 8
    config.data.channels = 1
    config.data.crop = "pad_crop"
    config.data.crop_padding = 1
    config.data.flip = False
    config.data.eval_crop = 1.0
    config.data.mean = (0.3,)
    config.data.std = (0.38,)

    config.schedule.learning_rate = 0.1
    config.schedule.warmup = 2.0
    config.optimizer.weight_decay = 5e-4
    return config
