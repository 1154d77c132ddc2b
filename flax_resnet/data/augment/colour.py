"""Color operations, equal to Pillow's bit for bit, and the color jitter made of them."""

from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from flax_resnet.data.augment import colour, lookup
from flax_resnet.data.augment.canvas import to_array, to_pillow
from flax_resnet.data.augment.config import AugmentConfig

# Pillow's ImageFilter.SMOOTH. An integer over 13 is never halfway between two integers, so both
# libraries round alike; Pillow takes ten times as long.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the gray image; factor 1 is the identity, and gray images do not change."""
    if image.shape[2] == 1:
        return image
    return to_array(ImageEnhance.Color(to_pillow(image)).enhance(factor))


def hue(image: np.ndarray, turn: float) -> np.ndarray:
    """Rotate the hue by a fraction of the circle, -0.5 .. 0.5; gray images do not change."""
    if image.shape[2] == 1:
        return image
    bands = np.array(to_pillow(image).convert("HSV"))
    bands[..., 0] += np.uint8(int(turn * 255) % 256)  # modulo 256
    return to_array(Image.fromarray(bands, "HSV").convert("RGB"))


def grey(image: np.ndarray) -> np.ndarray:
    """Convert to gray, as RGB."""
    # Pillow's weights of red, green and blue, which OpenCV rounds differently.
    return cv2.cvtColor(np.asarray(to_pillow(image).convert("L")), cv2.COLOR_GRAY2RGB)


def sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    """Blend with the smoothed image; factor 1 is the identity, larger ones sharpen."""
    smooth = image.copy()
    if min(image.shape[:2]) >= 3:  # The border does not change.
        filtered = cv2.filter2D(image, -1, _SMOOTH).reshape(image.shape)
        smooth[1:-1, 1:-1] = filtered[1:-1, 1:-1]
    return to_array(Image.blend(to_pillow(smooth), to_pillow(image), factor))


def blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Apply a Gaussian blur with a standard deviation of `radius` pixels."""
    return to_array(to_pillow(image).filter(ImageFilter.GaussianBlur(radius)))


# In the order of AugmentConfig.jitter.
CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "brightness": lookup.brightness,
    "contrast": lookup.contrast,
    "saturation": colour.saturation,
    "hue": colour.hue,
}


def draw_jitter(rng: np.random.Generator, config: AugmentConfig) -> list[tuple[str, float]]:
    """Draw the names and arguments of changes, in random order; strengths of 0 are omitted.

    Factors are uniform from max(0, 1 - x) to 1 + x, and rotations of hue from -x to x.
    """
    if rng.random() >= config.jitter_probability:
        return []
    steps = []
    uniforms = rng.random(4).tolist()
    for name, strength, uniform in zip(CHANGES, config.jitter, uniforms, strict=True):
        if strength > 0:
            low, high = max(0.0, 1.0 - strength), 1.0 + strength
            if name == "hue":
                low, high = -strength, strength
            steps.append((name, low + (high - low) * uniform))
    return [steps[at] for at in rng.permutation(len(steps)).tolist()]
