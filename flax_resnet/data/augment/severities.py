"""The arguments of the operations of policies at each magnitude."""

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Severity:
    """The arguments of an operation along a scale of magnitudes."""

    operation: str
    start: float = 0.0
    """The argument at magnitude 0."""
    end: float = 0.0
    """The argument at the nominal end of the scale."""
    signed: bool = False
    """Negate the distance from the start, at random."""
    whole: Callable[[float], int] | None = None
    """The rounding of the distance from the start to an integer."""
    low: float = -math.inf
    high: float = math.inf

    def argument(self, fraction: float, negative: bool) -> float:
        """Return the argument at a fraction of the scale, which may be above 1."""
        distance = (self.end - self.start) * fraction
        if self.whole is not None:
            distance = self.whole(distance)
        if self.signed and negative:
            distance = -distance
        return min(max(self.start + distance, self.low), self.high)


# AutoAugment's and RandAugment's, whose scale ends at 10 (https://arxiv.org/abs/1805.09501,
# table 6), with the translations of the EfficientNet code as fractions of the side.
SEVERITIES: dict[str, Severity] = {
    "autocontrast": Severity("autocontrast"),
    "equalize": Severity("equalize"),
    "invert": Severity("invert"),
    "rotate": Severity("rotate", 0, 30, signed=True),
    "posterize": Severity("posterize", 0, 4, whole=int),
    # The paper keeps 4 to 8 bits, the common code 0 to 4.
    "posterize_paper": Severity("posterize", 4, 8, whole=int),
    "solarize": Severity("solarize", 0, 256, whole=int, high=256),
    "solarize_add": Severity("solarize_add", 0, 110, whole=int, high=128),
    "colour": Severity("colour", 0.1, 1.9),
    "contrast": Severity("contrast", 0.1, 1.9),
    "brightness": Severity("brightness", 0.1, 1.9),
    "sharpness": Severity("sharpness", 0.1, 1.9),
    "shear_x": Severity("shear_x", 0, 0.3, signed=True),
    "shear_y": Severity("shear_y", 0, 0.3, signed=True),
    "translate_x": Severity("translate_x_relative", 0, 0.45, signed=True),
    "translate_y": Severity("translate_y_relative", 0, 0.45, signed=True),
}

RAND: dict[str, Severity] = {
    name: row for name, row in SEVERITIES.items() if name != "posterize_paper"
}

# The same operations, each stronger at 10 than at 0.
RAND_INCREASING: dict[str, Severity] = RAND | {
    "posterize": Severity("posterize", 4, 0, whole=int),
    "solarize": Severity("solarize", 256, 0, whole=int, low=0),
    "colour": Severity("colour", 1, 1.9, signed=True, low=0.1),
    "contrast": Severity("contrast", 1, 1.9, signed=True, low=0.1),
    "brightness": Severity("brightness", 1, 1.9, signed=True, low=0.1),
    "sharpness": Severity("sharpness", 1, 1.9, signed=True, low=0.1),
}

# TrivialAugment's wide ranges as in torchvision: 31 magnitudes, 0 .. 30
# (https://arxiv.org/abs/2103.10158, table 2). Translations are in pixels for any image size.
TRIVIAL_LEVELS = 31
TRIVIAL_WIDE: dict[str, Severity] = {
    "identity": Severity("identity"),
    "shear_x": Severity("shear_x", 0, 0.99, signed=True),
    "shear_y": Severity("shear_y", 0, 0.99, signed=True),
    "translate_x": Severity("translate_x", 0, 32, signed=True, whole=int),
    "translate_y": Severity("translate_y", 0, 32, signed=True, whole=int),
    "rotate": Severity("rotate", 0, 135, signed=True),
    "brightness": Severity("brightness", 1, 1.99, signed=True),
    "colour": Severity("colour", 1, 1.99, signed=True),
    "contrast": Severity("contrast", 1, 1.99, signed=True),
    "sharpness": Severity("sharpness", 1, 1.99, signed=True),
    "posterize": Severity("posterize", 8, 2, whole=round),
    "solarize": Severity("solarize", 255, 0),
    "autocontrast": Severity("autocontrast"),
    "equalize": Severity("equalize"),
}
