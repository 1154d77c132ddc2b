"""ResNet-20 on CIFAR-10 as in He et al. 2015 (arXiv:1512.03385), section 4.2.

64,000 steps of 128 images, learning rate 0.1, divided by ten after 32,000 and 48,000, weight decay
1e-4 on every parameter, momentum 0.9, four pixels of padding, random crop and flip. The paper
trains on 45,000 images and holds out 5,000 to choose this schedule; so does this recipe.

Command: python train.py --config configs/cifar10_resnet20.py
         (:cifar_resnet56 and so on for the deeper ones; the paper warms the 110-layer network up:
         --config.schedule.warmup=400; :cifar100 for CIFAR-100, or :cifar100/cifar_resnet56)
Source: arXiv:1512.03385, section 4.2
Expected: 91.25 % of the test images in the paper, for 20 layers (not measured by us).
Time: 182 epochs; minutes on a GPU, days on a few CPU cores.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "cifar_resnet20")
    config.steps = 64_000
    config.eval_every_epochs = 5.0
    config.test_when_done = True

    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.unit = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.boundaries = (32_000.0, 48_000.0)
    return config
