"""Wide ResNet 28-10 on CIFAR-10 as in Zagoruyko and Komodakis 2016.

Command: python train.py --config configs/cifar10_wrn_28_10.py
         (:wrn_40_4 and so on; :cifar100 for CIFAR-100, or :cifar100/wrn_40_4; the paper's dropout:
         --config.model.block_dropout=0.3)
Source: arXiv:1605.07146
Expected: 96.00 % of the test images in the paper (96.11 % with dropout; CIFAR-100 80.75 %), after
training on all 50,000 images (--config.data.train_split=train; not measured by us).
Time: 200 epochs; hours on a GPU.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "wrn_28_10")
    config.epochs = 200.0
    config.eval_every_epochs = 5.0
    config.test_when_done = True

    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.boundaries = (60.0, 120.0, 160.0)
    config.schedule.factor = 0.2
    return config
