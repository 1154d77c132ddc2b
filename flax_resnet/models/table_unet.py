"""The tables of U-Nets."""

from typing import Any

UNETS: dict[str, dict[str, Any]] = {
    # The lesson's network: same padding, batch norms beside biases, one output a pixel.
    "unet": dict(),
    # Ronneberger et al., arXiv:1505.04597, figure 1.
    "unet_valid": dict(norm="none", padding="valid", num_classes=2, in_channels=1, image_size=572),
}

ENCODER_UNETS: dict[str, dict[str, Any]] = {
    f"unet_{name}": dict(encoder=name) for name in ("resnet18", "resnet34", "resnet50")
}
