"""DenseNet-BC (100 layers, growth rate 12) on CIFAR-10 as in Huang et al. 2017 (arXiv:1608.06993).

300 epochs with batches of 64, learning rate 0.1, divided by ten after half and three quarters of
them, weight decay 1e-4, Nesterov momentum 0.9, four pixels of padding, random crop and flip. The
paper holds 5,000 images out; so does this recipe, which chooses its best checkpoint on them.

Command: python train.py --config configs/cifar10_densenet_bc.py
         (:cifar_densenet_bc250_24 and so on for the larger ones; :cifar100 for CIFAR-100, or
         :cifar100/cifar_densenet_bc250_24)
Source: arXiv:1608.06993
Expected: 95.49 % of the test images in the paper (not measured by us).
Time: half a day on a GPU, weeks on a few CPU cores; `--config.model.remat=True` saves memory.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "cifar_densenet_bc100_12")
    config.epochs = 300.0
    config.eval_every_epochs = 5.0
    config.test_when_done = True

    config.data.batch_size = 64

    config.optimizer.weight_decay = 1e-4
    config.optimizer.nesterov = True
    config.schedule.name = "step"
    config.schedule.learning_rate = 0.1
    config.schedule.boundaries = (150.0, 225.0)
    return config
