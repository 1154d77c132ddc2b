"""ResNet-50 with LARS and batches of 8,192, as the TensorFlow reference of MLPerf's early rounds.

Command: python train.py --config configs/imagenet_lars.py   (:resnet101 and so on)
         With less memory: --config.accumulate=16 --config.model.norm_group=512
Source: arXiv:1708.03888; rate, warm-up and decay from the reference's table for this batch size
Expected: 75.9 % top-1, the benchmark's target (not measured by us).
Time: 115 million images; at 2,500 images a second 13 hours.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "resnet50") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("imagenet")
    config.epochs = 90.0
    config.label_smoothing = 0.1

    config.model.name = model
    config.model.zero_init_last = True

    config.data.batch_size = 8192

    config.optimizer.name = "lars"
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_norms = False
    config.schedule.name = "polynomial"
    config.schedule.power = 2.0
    config.schedule.learning_rate = 10.0
    config.schedule.end_rate = 1e-4
    config.schedule.warmup = 5.0
    return config
