"""The data settings that recipes share: where a data set lies and how its images are prepared."""

from collections.abc import Mapping
from typing import Any

# Small images are shifted by a few pixels and evaluated whole; a tenth of the training images
# chooses the best checkpoint, so that the test images choose nothing.
_CIFAR = {
    "train_split": "train[:90%]",
    "eval_split": "train[90%:]",
    "test_split": "test",
    "batch_size": 128,
    "image_size": 32,
    "crop": "pad_crop",
    "eval_crop": 1.0,
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "imagenet": {
        "source": "tfds:imagenet2012",
        "train_split": "train",
        "eval_split": "validation",
        "batch_size": 256,
        "image_size": 224,
    },
    "cifar10": {
        "source": "tfds:cifar10",
        **_CIFAR,
        "mean": (0.4914, 0.4822, 0.4465),
        "std": (0.2470, 0.2435, 0.2616),
    },
    "cifar100": {
        "source": "tfds:cifar100",
        **_CIFAR,
        "mean": (0.5071, 0.4865, 0.4409),
        "std": (0.2673, 0.2564, 0.2762),
    },
}
