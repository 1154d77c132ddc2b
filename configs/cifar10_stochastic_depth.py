"""ResNet-110 on CIFAR-10 with stochastic depth up to a rate of 0.5 (Huang et al. 2016).

Command: python train.py --config configs/cifar10_stochastic_depth.py   (:cifar_resnet1202)
         (:cifar100 for CIFAR-100, or :cifar100/cifar_resnet1202)
Source: arXiv:1603.09382
Expected: 94.77 % of the test images with the authors' program, which reports an error of 5.23 %
(https://github.com/yueatsprograms/Stochastic_Depth; not measured by us).
Time: 500 epochs; hours on a GPU.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "cifar_resnet110")
    config.epochs = 500.0
    config.eval_every_epochs = 10.0
    config.test_when_done = True

    config.model.drop_path = 0.5

    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 1e-4
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.boundaries = (250.0, 375.0)
    return config
