"""The settings of what is done to single training images beyond crops and flips."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass

from flax_resnet.errors import InputError, require_known

POLICY_NAMES = ("", "auto", "auto_paper", "rand", "trivial")
FILLS = ("mean", "black")
ERASE_MODES = ("const", "rand", "pixel")
# The settings that switch something on, in the order in which images go through them.
STAGE_NAMES = ("policy", "jitter", "grey", "blur", "solarize", "erase")


@dataclass(frozen=True)
class AugmentConfig:
    """Say how training images are changed after crop and flip; nothing is on by default.

    Images go through policy, jitter, grey, blur, solarize and erase, in this order.
    """

    policy: str = ""
    """"" (none) | auto (AutoAugment's policy v0 of the EfficientNet code) | auto_paper (that of
    arXiv:1805.09501, table 9) | rand (RandAugment) | trivial (TrivialAugment-Wide, whose shifts
    of up to 32 pixels are meant for images of 224). What bends or moves images interpolates as
    config.data.interpolation says, bilinearly for area, smooth and aliased."""
    operations: int = 2
    """How many operations rand draws for an image (N of arXiv:1909.13719)."""
    magnitude: float = 9.0
    """How strong those of rand are (M of arXiv:1909.13719): 0 .. magnitude_max."""
    magnitude_std: float = 0.0
    """Standard deviation of normal noise on each magnitude of rand and auto; published recipes
    that have some take 0.5."""
    magnitude_max: float = 10.0
    """Where noise is cut off. 10 is the scale's nominal end; stronger recipes go beyond."""
    probability: float = 0.5
    """That each operation of rand is applied; 1.0 in arXiv:1909.13719."""
    increasing: bool = False
    """Let every operation of rand become stronger with the magnitude. The original ranges leave
    posterize and solarize weaker, and the enhancements weakest in the middle."""
    fill: str = "mean"
    """What fills the corners that rotations and shifts leave: mean (config.data.mean) | black"""

    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Strengths of brightness, contrast, saturation and hue: a factor from 1 - x to 1 + x each,
    for hue a turn from -x to x with x <= 0.5. They come in random order."""
    jitter_probability: float = 1.0
    grey: float = 0.0
    """Probability that an image loses its colour."""
    blur: float = 0.0
    """Probability of a Gaussian blur."""
    blur_radius: tuple[float, float] = (0.1, 2.0)
    """The range of its standard deviation, in pixels."""
    solarize: float = 0.0
    """Probability that values from 128 on are inverted."""

    erase: float = 0.0
    """Probability that a rectangle is overwritten (arXiv:1708.04896)."""
    erase_mode: str = "const"
    """const (config.data.mean, which normalising turns into 0 up to half a grey level) | rand (one
    normal colour a rectangle) | pixel (normal noise). Colours are those that pixels can have:
    where others erase normalised images, noise goes beyond white and black, and here it ends
    there."""
    erase_scale: tuple[float, float] = (0.02, 1 / 3)
    """The range of its area, as a fraction of the image."""
    erase_ratio: tuple[float, float] = (0.3, 1 / 0.3)
    """The range of its height over its width."""

    repeats: int = 1
    """How often an image comes in a batch, each time changed otherwise (arXiv:1901.09335). An epoch
    has as many batches as ever, and sees one in so many images."""

    def __post_init__(self) -> None:
        """Turn lists, as they come out of JSON, into tuples; refuse values that cannot work."""
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
        """Return the names of the stages that are on, in order."""
        on = self.__dict__ | {"jitter": any(self.jitter) and self.jitter_probability > 0}
        return tuple(name for name in STAGE_NAMES if on[name])

    def check_use(self, source: str, channels: int) -> None:
        """Raise `InputError` where images of this source and kind cannot go through the stages."""
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
