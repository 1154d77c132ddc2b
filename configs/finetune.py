"""Published weights, or those of a run, on a folder of images.

Command: python train.py --config configs/finetune.py:resnet50.a1_in1k
         --config.data.source=folder:PATH    (PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg)
After the colon comes anything that `flax_resnet.load_pretrained` takes; images are prepared as
those weights expect them. The first three stages and their batch norms are frozen:
`--config.freeze='stem|layer[1-4]'` trains only the head, `--config.freeze=''` everything.
Source: ours
Expected: not measured by us yet.
Time: an epoch of a few hundred images takes minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from flax_resnet.training.networks import find_network
from flax_resnet.training.parsing import base_config


def get_config(weights: str = "resnet18.a1_in1k") -> ConfigDict:
    """Return the settings for fine-tuning `weights`."""
    config = base_config()
    config.epochs = 10.0
    config.label_smoothing = 0.1
    config.freeze = "stem|layer[123]"

    origin = find_network(weights)
    config.model.name = origin.architecture
    config.model.pretrained = weights

    config.data.update(origin.image_settings(train_size=True))
    config.data.source = "folder:photos"
    config.data.train_split = "train"
    config.data.eval_split = "val"
    config.data.batch_size = 32
    config.data.crop_scale = (0.35, 1.0)

    config.schedule.learning_rate = 0.01
    config.schedule.warmup = 1.0
    config.optimizer.nesterov = True
    config.optimizer.decay_norms = False
    return config
