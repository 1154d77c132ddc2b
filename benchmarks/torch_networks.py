"""The peers' networks: timm's, and a short one in torch for CIFAR names that timm lacks."""

import re
import sys
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, torch's own name for it
from torch import library, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.case import Case

# A torchvision whose compiled operators do not fit the installed torch fails on import; timm
# imports it, but the networks here use none of these operators.
_TORCHVISION_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qroi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
    "int pooled_width, int sampling_ratio, bool aligned) -> Tensor",
)
# A library of operators goes when it is dropped, and its operators with it.
_KEPT: list[Any] = []


def create_network(case: Case) -> nn.Module:
    """Return the peer of the case's network, with as many parameters."""
    cifar = re.fullmatch(r"cifar_resnet(\d+)", case.model)
    if cifar:
        return CifarResNet(int(cifar[1]), case.num_classes, case.remat)
    shallow = dict(layers=(1,) * 4, channels=(64,) * 4) if case.shallow else {}
    create_model = import_timm().create_model
    model: nn.Module = create_model(case.model, num_classes=case.num_classes, **shallow)
    if case.remat:
        model.set_grad_checkpointing()
    return model


class CifarResNet(nn.Module):
    """He et al. 2015, section 4.2: three stages of basic blocks, option A."""

    def __init__(self, depth: int, num_classes: int, remat: bool = False) -> None:
        super().__init__()
        self.remat = remat
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks, channels = [], 16
        for width in (16, 32, 64):
            for _ in range((depth - 2) // 6):
                blocks.append(CifarBlock(channels, width))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.linear = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (n, 3, h, w)."""
        x = F.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            remat = self.remat and self.training
            x = checkpoint(block, x, use_reentrant=False) if remat else block(x)
        return self.linear(x.mean((2, 3)))


class CifarBlock(nn.Module):
    """Two convolutions; where channels grow the shortcut takes every second pixel, and zeros."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.grown, stride = width - channels, 1 if width == channels else 2
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return maps of the block's width."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grown:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.grown // 2, self.grown // 2))
        return F.relu(x + y)


def import_timm() -> Any:
    """Import timm, beside a torchvision that does not fit the installed torch too."""
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        operators = library.Library("torchvision", "DEF")
        for signature in _TORCHVISION_OPERATORS:
            operators.define(signature)
        _KEPT.append(operators)
        for name in [
            key for key in sys.modules if key.partition(".")[0] in ("timm", "torchvision")
        ]:
            del sys.modules[name]
        import timm
    return timm
