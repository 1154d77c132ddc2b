"""The settings of the data pipeline."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flax_resnet.data.augment.config import AugmentConfig
from flax_resnet.errors import InputError, require_known, require_local

CROP_NAMES = ("random_resized_crop", "pad_crop", "none")
INTERPOLATIONS = ("area", "smooth", "bilinear", "bicubic", "random", "aliased")
_ON_ERROR = ("raise", "skip")
SHUFFLED, BALANCED = "shuffled", "balanced"


@dataclass(frozen=True)
class MaskConfig:
    """Settings of masks:PATH alone; other sources refuse all but the defaults.

    Training crops are cut at random to image_size without resizing. Evaluation takes whole images.
    """

    values: tuple[int, ...] = ()
    """The pixel value of each class, in increasing order; (): the values that occur in train."""
    class_names: tuple[str, ...] = ()
    """(): "value 0" and so on."""
    ignore_value: int | None = None
    """Pixels of this value count in neither the loss nor the metrics."""
    flip_vertical: bool = False
    """Flip training images upside down with probability 1/2."""
    quarter_turns: bool = False
    """Rotate training images by 0, 90, 180 or 270 degrees, at random."""
    elastic: float = 0.0
    """Standard deviation, in pixels, of the random displacements that deform training images."""
    elastic_spacing: int = 64
    """Pixels between neighboring displacements of the grid."""
    class_weights: tuple[float, ...] = ()
    """Weight of each class's pixels in the loss; (): 1."""
    border_weight: float = 0.0
    """Additional weight of the background in narrow gaps (w0 of arXiv:1505.04597)."""
    border_sigma: float = 5.0
    """Width of such gaps, in pixels."""

    def __post_init__(self) -> None:
        """Turn lists, as read from JSON, into tuples; refuse invalid values."""
        _lists_to_tuples(self)
        values = self.values
        pixels = all(type(value) is int and 0 <= value <= 255 for value in values)
        increasing = pixels and sorted(set(values)) == list(values) and len(values) <= 255
        self._require("values", increasing, "at most 255 increasing numbers from 0 to 255")
        unused = self.ignore_value not in values
        self._require("ignore_value", unused, "a value that is not in config.data.masks.values")
        self._require("elastic", self.elastic >= 0, "at least 0 pixels")
        self._require("elastic_spacing", self.elastic_spacing >= 1, "at least 1 pixel")
        self._require("border_weight", self.border_weight >= 0, "at least 0")
        self._require("border_sigma", self.border_sigma > 0, "a positive number of pixels")
        self._require("class_weights", min(self.class_weights, default=0) >= 0, "at least 0")

    def check_use(self, source: str) -> None:
        """Raise `InputError` if a setting is not at its default and `source` has no masks."""
        for entry in dataclasses.fields(self):
            if not source.startswith("masks:") and getattr(self, entry.name) != entry.default:
                reason = f"since config.data.source is {source!r}, not masks:PATH"
                self._require(entry.name, False, f"its default {entry.default!r}, {reason}")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        _require(self, name, holds, expected, "config.data.masks")


@dataclass(frozen=True)
class DataConfig:
    """Settings of the source, the crops, the augmentation and the batches."""

    source: str = "digits"
    """digits | `tfds:NAME[/config][:version]` | `hf:OWNER/NAME[/config][@revision][:label]` |
    folder:PATH | csv:PATH | masks:PATH | synthetic[:CLASSES]"""
    data_dir: str | None = None
    """The folder of prepared data of tfds: and hf:. None: TFDS's own default, which $TFDS_DATA_DIR
    sets, and `flax_resnet` in the folder of the hub's client, $HF_HOME."""
    follow_links: bool = False
    """Allow symbolic links that lead out of the folder of folder:PATH and masks:PATH, and rows of
    csv:PATH with files outside the table's folder."""
    train_split: str = "train"
    eval_split: str = "validation"
    """Evaluated during training; selects the best checkpoint."""
    test_split: str | None = None
    """Read only by the eval command."""

    sampling: str = SHUFFLED
    """shuffled: an epoch visits every training image once | balanced: all classes are equally
    frequent. An epoch is as long, repeats images of rare classes, each time augmented differently,
    and leaves some of the frequent ones to later epochs."""
    batch_size: int = 128
    """Examples in a training batch, over all devices and processes."""
    eval_batch_size: int = 256
    """Does not affect the metrics. Images with masks are not resized, so use a small one."""
    image_size: int = 224
    """Height and width of training images."""
    sizes: tuple[tuple[float, int], ...] = ()
    """Progressive resizing: (from_epoch, size); each replaces image_size from that epoch on. The
    step is compiled once per size. `size_ramp` of `flax_resnet.data` makes a ramp."""
    eval_size: int | None = None
    """Height and width of evaluation images (arXiv:1906.06423); None: image_size."""
    eval_flip: bool = False
    """Average the logits of each image and of its mirror image in evaluation."""
    channels: int = 3

    crop: str = "random_resized_crop"
    """random_resized_crop | pad_crop | none (the whole image, resized if necessary)"""
    crop_scale: tuple[float, float] = (0.08, 1.0)
    """The range of areas that random_resized_crop keeps, as fractions of the image."""
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """The range of its aspect ratio, width over height."""
    crop_padding: int = 4
    """Black pixels that pad_crop adds on each side."""
    flip: bool = True
    """Mirror training images with probability 1/2."""
    eval_crop: float = 0.875
    """The side of the center crop over the resized image's short side; 1.0 for small images."""
    interpolation: str = "area"
    """How images are resized: area (averages when shrinking) | smooth (blurs before shrinking:
    close to Pillow's bilinear filter, in a quarter of its time) | bilinear | bicubic (both as in
    Pillow, as published weights were trained) | random (bilinear or bicubic, drawn for each
    training image; evaluation is bicubic) | aliased (no averaging, the fastest)"""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Further augmentation of single training images; see AugmentConfig."""

    transform: str | None = None
    """A transform of training images that `flax_resnet.register_transform` has added."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    """Per channel, of images in 0..1. The training step normalizes on the device."""

    masks: MaskConfig = field(default_factory=MaskConfig)
    """Classes and augmentation of masks:PATH; see MaskConfig."""

    on_device: bool = False
    """Keep all images on every device as uint8, and shuffle, shift (pad_crop) and mirror them
    there, so that small data sets need no loader. The order of examples is that of the host's
    pipeline; shifts and mirroring are drawn differently."""
    workers: int = -1
    """-1: chosen for the machine; 0: threads of this process; n: n worker processes."""
    on_error: str = "raise"
    """What to do with an image that cannot be decoded: raise | skip"""
    max_errors: int = 100
    """Maximum number of images that each process skips per epoch."""

    def __post_init__(self) -> None:
        """Turn lists, as read from JSON, into tuples; refuse invalid values."""
        if isinstance(self.augment, Mapping):
            object.__setattr__(self, "augment", AugmentConfig(**self.augment))
        masks: object = self.masks
        if isinstance(masks, Mapping):
            object.__setattr__(self, "masks", MaskConfig(**masks))
        _lists_to_tuples(self)
        require_local(self.source)
        require_local(Path(self.source.partition(":")[2]))
        require_local(Path(self.data_dir or ""))
        _check_sizes(self)
        require_known("config.data.crop", self.crop, CROP_NAMES)
        require_known("config.data.interpolation", self.interpolation, INTERPOLATIONS)
        require_known("config.data.on_error", self.on_error, _ON_ERROR)
        require_known("config.data.sampling", self.sampling, (SHUFFLED, BALANCED))
        for name in ("batch_size", "eval_batch_size", "image_size"):
            _require(self, name, getattr(self, name) >= 1, "at least 1")
        _require(self, "channels", self.channels in (1, 3), "1 (grey) or 3 (red, green, blue)")
        _require(self, "crop_scale", _is_range(self.crop_scale, 1.0), "0 < low <= high <= 1")
        _require(self, "crop_ratio", _is_range(self.crop_ratio), "0 < low <= high")
        _require(self, "crop_padding", self.crop_padding >= 0, "at least 0")
        _require(self, "eval_crop", 0 < self.eval_crop <= 1, "above 0 and at most 1")
        for name in ("mean", "std"):
            count = len(getattr(self, name))
            _require(self, name, count in (1, self.channels), f"{self.channels} numbers, or one")
        _require(self, "std", min(self.std) > 0, "positive numbers")
        self.augment.check_use(self.source, self.channels)
        self.masks.check_use(self.source)
        samples = self.sampling == SHUFFLED or not self.source.startswith("masks:")
        _require(self, "sampling", samples, f"{SHUFFLED!r}, since images with masks have no class")
        _check_on_device(self)
        _require(self, "workers", self.workers >= -1, "-1, 0 or a number of processes")
        _require(self, "max_errors", self.max_errors >= 0, "at least 0")

    @property
    def test_size(self) -> int:
        """Return the height and width of evaluation images."""
        return self.image_size if self.eval_size is None else self.eval_size

    @property
    def train_size(self) -> int:
        """Return the height and width of training images at the end of training."""
        return self.sizes[-1][1] if self.sizes else self.image_size


def _check_sizes(config: DataConfig) -> None:
    _require(config, "eval_size", config.test_size >= 1, "at least 1, or None")
    for pair in config.sizes:
        good = isinstance(pair, Iterable) and not isinstance(pair, str) and len(tuple(pair)) == 2
        _require(config, "sizes", good, "pairs of (from_epoch, size)")
    # Command-line values turn the integer sizes beside float epochs into floats.
    pairs = tuple((epoch, size) for epoch, size in config.sizes)
    epochs = [epoch for epoch, _ in pairs]
    increase = all(a < b for a, b in itertools.pairwise(epochs))
    whole = all(size >= 1 and size == int(size) for _, size in pairs)
    good = increase and whole and min(epochs, default=0) >= 0
    _require(config, "sizes", good, "increasing epochs, and whole sizes of at least 1")
    object.__setattr__(config, "sizes", tuple((float(epoch), int(size)) for epoch, size in pairs))


def _check_on_device(config: DataConfig) -> None:
    if not config.on_device:
        return
    # Setting -> (whether it is unsupported on devices, what is expected instead).
    refused: dict[str, tuple[bool, str]] = {
        "source": (config.source.startswith("masks:"), "a class for each image"),
        "crop": (config.crop == "random_resized_crop", "'pad_crop' or 'none'"),
        "interpolation": (config.interpolation == "random", "one filter for all images"),
        "sizes": (bool(config.sizes), "(), one size for all epochs"),
        "transform": (config.transform is not None, "None"),
    } | {f"augment.{stage}": (True, "its default") for stage in config.augment.stages}
    for name, (asked, expected) in refused.items():
        found = functools.reduce(getattr, name.split("."), config)
        if asked:
            raise InputError(
                f"config.data.{name} is {found!r}; expected {expected}, since "
                "config.data.on_device is True. Change it, or set config.data.on_device=False."
            )


def _is_range(values: tuple[float, ...], top: float = float("inf")) -> bool:
    return len(values) == 2 and 0 < values[0] <= values[1] <= top


def _lists_to_tuples(config: Any) -> None:
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        if isinstance(value, Iterable) and not isinstance(value, str):
            object.__setattr__(config, entry.name, tuple(value))


def _require(
    config: Any, name: str, holds: bool, expected: str, section: str = "config.data"
) -> None:
    if not holds:
        raise InputError(f"{section}.{name} is {getattr(config, name)!r}; expected {expected}.")


# Small images are shifted by a few pixels, and not cropped for evaluation. A tenth of the training
# images selects the best checkpoint, so that the test images select nothing.
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
