"""The pre-activation ResNet-164 on CIFAR-10 as in He et al. 2016, "Identity mappings".

Command: python train.py --config configs/cifar10_preact_resnet164.py
         (:cifar_preact_resnet1001 for the deepest; --config.data.source=tfds:cifar100)
Source: arXiv:1603.05027
Expected: 94.54 % of the test images in the paper for 164 layers, 95.08 % for 1001, both after
training on all 50,000 images (--config.data.train_split=train; not measured by us).
Time: 64,000 steps of 128 images; hours on a GPU.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(model: str = "cifar_preact_resnet164") -> ConfigDict:
    """Return the settings for training `model`."""
    config = base_config("cifar10")
    config.steps = 64_000
    config.eval_every_epochs = 5.0
    config.test_when_done = True

    config.model.name = model

    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.unit = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.warmup = 400.0
    config.schedule.warmup_start = 0.01
    config.schedule.boundaries = (32_000.0, 48_000.0)
    return config
