"""The pre-activation ResNet-164 on CIFAR-10 as in He et al. 2016, "Identity mappings".

Command: python train.py --config configs/cifar10_preact_resnet164.py
         (:cifar_preact_resnet1001 for the deepest; :cifar100 for CIFAR-100, or
         :cifar100/cifar_preact_resnet1001)
Source: arXiv:1603.05027
Expected: 94.54 % of the test images in the paper for 164 layers, 95.08 % for 1001, both after
training on all 50,000 images (--config.data.train_split=train; not measured by us).
Time: 64,000 steps of 128 images; hours on a GPU.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "cifar_preact_resnet164")
    config.steps = 64_000
    config.eval_every_epochs = 5.0
    config.test_when_done = True

    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.unit = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.warmup = 400.0
    config.schedule.warmup_start = 0.01
    config.schedule.boundaries = (32_000.0, 48_000.0)
    return config
