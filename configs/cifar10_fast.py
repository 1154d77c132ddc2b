"""Wide ResNet 16-8 on CIFAR-10 in 15 epochs, for 94 % within a minute on one large GPU.

A one-cycle schedule, large batches, erased squares, and mirror images in evaluation: what the fast
recipes since DAWNBench have in common.

Command: python train.py --config configs/cifar10_fast.py --config.model.dtype=bfloat16
         (:wrn_28_10 and so on; :cifar100 for CIFAR-100, or :cifar100/wrn_28_10)
Source: ours, after https://github.com/KellerJordan/cifar10-airbench and arXiv:1708.07120
Expected: 94 % of the test images (not measured by us).
Time: 15 epochs of 1.6 billion multiply-adds an image.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import chosen_config


def get_config(choice: str = "") -> ConfigDict:
    """Return the settings for `choice`: a model, a data set, or cifar100/MODEL for both."""
    config = chosen_config(choice, "cifar10", "wrn_16_8")
    config.epochs = 15.0
    config.eval_every_epochs = 5.0
    config.test_when_done = True
    config.label_smoothing = 0.1

    config.model.zero_init_last = True

    config.data.batch_size = 512
    config.data.eval_flip = True
    config.data.augment.erase = 0.5
    config.data.augment.erase_scale = (0.0625, 0.0625)
    config.data.augment.erase_ratio = (1.0, 1.0)

    config.optimizer.nesterov = True
    config.optimizer.weight_decay = 5e-4
    config.schedule.name = "one_cycle"
    config.schedule.learning_rate = 0.4
    config.schedule.warmup = 3.0
    return config
