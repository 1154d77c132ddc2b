"""Settings of the augmentation of single training images after crops and flips."""

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass

from flax_resnet.errors import InputError, require_known

POLICY_NAMES = ("", "auto", "auto_paper", "rand", "trivial")
FILLS = ("mean", "black")
ERASE_MODES = ("const", "rand", "pixel")
# The settings that switch a stage on, in the order of the stages.
STAGE_NAMES = ("policy", "jitter", "grey", "blur", "solarize", "erase")


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training images after crop and flip; off by default.

    The stages are policy, jitter, grey, blur, solarize and erase, in this order.
    """

    policy: str = ""
    """"" (none) | auto (AutoAugment's policy v0 of the EfficientNet code) | auto_paper (that of
    arXiv:1805.09501, table 9) | rand (RandAugment) | trivial (TrivialAugment-Wide, whose shifts
    of up to 32 pixels are meant for images of 224). Geometric operations interpolate as set by
    config.data.interpolation, bilinearly for area, smooth and aliased."""
    operations: int = 2
    """The number of operations of rand per image (N of arXiv:1909.13719)."""
    magnitude: float = 9.0
    """The magnitude of rand (M of arXiv:1909.13719): 0 .. magnitude_max."""
    magnitude_std: float = 0.0
    """Standard deviation of normal noise on each magnitude of rand and auto; published recipes with
    noise use 0.5."""
    magnitude_max: float = 10.0
    """Upper limit of noisy magnitudes. 10 is the nominal maximum; some recipes exceed it."""
    probability: float = 0.5
    """Probability of each operation of rand; 1.0 in arXiv:1909.13719."""
    increasing: bool = False
    """Make every operation of rand stronger with the magnitude. In the original ranges, posterize
    and solarize become weaker, and the enhancements are weakest in the middle."""
    fill: str = "mean"
    """Color of the area that rotations and shifts uncover: mean (config.data.mean) | black"""

    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strengths x of brightness, contrast, saturation and hue, in random order: factors from 1 - x
    to 1 + x, and for hue a rotation from -x to x with x <= 0.5."""
    jitter_probability: float = 1.0
    grey: float = 0.0
    """Probability of conversion to gray."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_radius: tuple[float, float] = (0.1, 2.0)
    """The range of its standard deviation, in pixels."""
    solarize: float = 0.0
    """Probability of inverting values of at least 128."""

    erase: float = 0.0
    """Probability of erasing a rectangle (arXiv:1708.04896)."""
    erase_mode: str = "const"
    """const (config.data.mean, which is normalized to 0 up to rounding) | rand (one normally
    distributed color per rectangle) | pixel (normal noise). Colors are clipped to black and white,
    unlike in implementations that erase normalized images."""
    erase_scale: tuple[float, float] = (0.02, 1 / 3)
    """The range of its area, as a fraction of the image."""
    erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """The range of its height over its width."""

    repeats: int = 1
    """Occurrences of an image in a batch, each augmented differently (arXiv:1901.09335). The number
    of batches per epoch stays the same, so an epoch contains 1 / repeats of the images."""

    def __post_init__(self) -> None:
        """Turn lists, as read from JSON, into tuples; refuse invalid values."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Iterable) and not isinstance(value, str):
                object.__setattr__(self, field.name, tuple(value))
        require_known("config.data.augment.policy", self.policy, POLICY_NAMES)
        require_known("config.data.augment.fill", self.fill, FILLS)
        require_known("config.data.augment.erase_mode", self.erase_mode, ERASE_MODES)
        for name in ("probability", "jitter_probability", "grey", "blur", "solarize", "erase"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability, from 0 to 1")
        self._require("operations", self.operations >= 1, "at least 1")
        self._require("repeats", self.repeats >= 1, "at least 1")
        self._require("magnitude_max", self.magnitude_max > 0, "a positive number")
        in_scale = 0 <= self.magnitude <= self.magnitude_max
        self._require("magnitude", in_scale, f"0 to magnitude_max = {self.magnitude_max}")
        self._require("magnitude_std", self.magnitude_std >= 0, "at least 0")
        strengths = len(self.jitter) == 4 and min(self.jitter) >= 0 and self.jitter[3] <= 0.5
        self._require("jitter", strengths, "4 numbers of at least 0, the last at most 0.5")
        for name in ("blur_radius", "erase_scale", "erase_ratio"):
            low, high = (*getattr(self, name), 0.0, 0.0)[:2]
            is_range = len(getattr(self, name)) == 2 and 0 < low <= high
            self._require(name, is_range, "0 < low <= high")
        self._require("erase_scale", self.erase_scale[1] <= 1, "at most 1")

    @functools.cached_property
    def stages(self) -> tuple[str, ...]:
        """Return the names of the active stages, in order."""
        on = self.__dict__ | {"jitter": any(self.jitter) and self.jitter_probability > 0}
        return tuple(name for name in STAGE_NAMES if on[name])

    def check_use(self, source: str, channels: int) -> None:
        """Raise `InputError` if the stages do not support this source and these channels."""
        if self.stages and source.startswith("masks:"):
            raise InputError(
                f"config.data.augment.{self.stages[0]} is {getattr(self, self.stages[0])!r}; "
                "expected its default, for images with masks do not go through it. "
                "config.data.masks.elastic, flip_vertical and quarter_turns are for them."
            )
        if channels == 1:
            colourless = "no saturation and no hue, for config.data.channels is 1 (grey)"
            self._require("jitter", not any(self.jitter[2:]), colourless)
            self._require("grey", self.grey == 0, "0, for config.data.channels is 1 (grey)")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            found = getattr(self, name)
            raise InputError(f"config.data.augment.{name} is {found!r}; expected {expected}.")
