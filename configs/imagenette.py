"""ResNet-18 at 128 px on Imagenette, ten easy classes of ImageNet.

Command: python train.py --config configs/imagenette.py:20   (:5 or :80, the leaderboard's epochs)
         (a copy in folders: --config.data.source=folder:PATH --config.data.eval_split=val)
Source: ours; the leaderboard is https://github.com/fastai/imagenette
Expected: not measured by us yet; the public leaderboard's 5, 20 and 80 epochs at 128 px reach
87.4, 91.6 and 93.6 % with stronger recipes.
Time: minutes on a GPU; at 64 px about three minutes an epoch on two CPU cores.
"""

from ml_collections import ConfigDict

from flax_resnet.training.parsing import base_config


def get_config(epochs: str = "20") -> ConfigDict:
    """Return the settings for the given number of epochs."""
    config = base_config()
    config.epochs = float(epochs)
    config.label_smoothing = 0.1

    config.model.name = "resnet18"
    config.model.zero_init_last = True

    config.data.source = "tfds:imagenette/160px-v2"
    config.data.train_split = "train"
    config.data.eval_split = "validation"
    config.data.batch_size = 64
    config.data.image_size = 128
    config.data.crop_scale = (0.35, 1.0)

    config.schedule.learning_rate = 0.1
    config.schedule.warmup = 1.0
    config.optimizer.weight_decay = 5e-4
    config.optimizer.nesterov = True
    return config
