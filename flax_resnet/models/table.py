"""The table of networks: names, and the arguments of their modules. A new variant is a new row.

Names, shapes and counts are those of timm and torchvision, or of the papers if neither has the
network. Letters after a depth: c, s: deep stems; d, t: deep and tiered stems with averaging
shortcuts (Bag of Tricks, arXiv:1812.01187); e: d with the wider stem.
"""

from typing import Any

_DEPTHS: dict[str, dict[int, tuple[int, ...]]] = {
    "basic": {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)},
    "bottleneck": {
        14: (1, 1, 1, 1),
        26: (2, 2, 2, 2),
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
        200: (3, 24, 36, 3),
        201: (3, 24, 36, 4),
        269: (3, 30, 48, 8),
        270: (4, 29, 53, 4),
        350: (4, 36, 72, 4),
        420: (4, 44, 87, 4),
    },
}


def _net(depth: int, *features: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Return the arguments of a network of this depth with these features."""
    block = "basic" if depth in _DEPTHS["basic"] else "bottleneck"
    row = dict(stage_sizes=_DEPTHS[block][depth], block=block)
    for feature in features:
        row |= feature
    return row | arguments


_C = dict(stem="deep")
_D = dict(stem="deep", shortcut="average")
_T = dict(stem="tiered", shortcut="average")
_S = dict(stem="deep", stem_width=128)
_E = _D | _S
_SE, _ECA = dict(gate="se"), dict(gate="eca")
_AVERAGE = dict(anti_alias="average", stem_pool="average")
_BLUR = dict(anti_alias="blur", stem_pool="blur")
_RS = dict(gate="se", gate_ratio=0.25, stem_pool="conv") | _D  # arXiv:2103.07579
V2 = dict(order="pre", head_name="head.fc")
_BIT = dict(norm="group", standardize=1e-8, stem_pool="max_zeros") | V2  # arXiv:1912.11370


def _next(cardinality: int, base_width: int) -> dict[str, Any]:
    return dict(cardinality=cardinality, base_width=base_width)


def _wider(factor: int) -> dict[str, Any]:
    return dict(widths=tuple(factor * width for width in (64, 128, 256, 512)))


def _selective(ratio: float, divisor: int, split: bool) -> dict[str, Any]:
    return dict(
        middle="selective_kernel", gate_ratio=ratio, gate_divisor=divisor, split_input=split
    )


def _res2net(base_width: int, scale: int, cardinality: int = 1) -> dict[str, Any]:
    return dict(middle="scales", scale=scale, base_width=base_width, cardinality=cardinality)


def _resnest(radix: int = 2, base_width: int = 64, cardinality: int = 1) -> dict[str, Any]:
    return dict(
        middle="split_attention",
        anti_alias="average_3x3" if base_width == 64 else "average_3x3_first",
        radix=radix,
        base_width=base_width,
        cardinality=cardinality,
    )


RESNETS: dict[str, dict[str, Any]] = {
    "resnet10t": _net(10, _T, image_size=176),
    "resnet14t": _net(14, _T, image_size=176),
    "resnet18": _net(18),
    "resnet18d": _net(18, _D),
    "resnet26": _net(26),
    "resnet26d": _net(26, _D),
    "resnet26t": _net(26, _T, image_size=256),
    "resnet34": _net(34),
    "resnet34d": _net(34, _D),
    "resnet50": _net(50),
    "resnet50_gn": _net(50, norm="group"),
    "resnet50c": _net(50, _C),
    "resnet50d": _net(50, _D),
    "resnet50s": _net(50, _S),
    "resnet50t": _net(50, _T),
    "resnet101": _net(101),
    "resnet101c": _net(101, _C),
    "resnet101d": _net(101, _D, image_size=256),
    "resnet101s": _net(101, _S),
    "resnet152": _net(152),
    "resnet152c": _net(152, _C),
    "resnet152d": _net(152, _D, image_size=256),
    "resnet152s": _net(152, _S),
    "resnet200": _net(200),
    "resnet200d": _net(200, _D, image_size=256),
    "wide_resnet50_2": _net(50, base_width=128),
    "wide_resnet101_2": _net(101, base_width=128),
    "resnext50_32x4d": _net(50, _next(32, 4)),
    "resnext50d_32x4d": _net(50, _D, _next(32, 4)),
    "resnext101_32x4d": _net(101, _next(32, 4)),
    "resnext101_32x8d": _net(101, _next(32, 8)),
    "resnext101_32x16d": _net(101, _next(32, 16)),
    "resnext101_32x32d": _net(101, _next(32, 32)),
    "resnext101_64x4d": _net(101, _next(64, 4)),
    "ecaresnet26t": _net(26, _T, _ECA, image_size=256),
    "ecaresnet50d": _net(50, _D, _ECA),
    "ecaresnet50t": _net(50, _T, _ECA, image_size=256),
    "ecaresnet101d": _net(101, _D, _ECA),
    "ecaresnet200d": _net(200, _D, _ECA, image_size=256),
    "ecaresnet269d": _net(269, _D, _ECA, image_size=320),
    "ecaresnetlight": _net(50, _ECA, stage_sizes=(1, 1, 11, 3), shortcut="average"),
    "ecaresnext26t_32x4d": _net(26, _T, _ECA, _next(32, 4)),
    "ecaresnext50t_32x4d": _net(50, _T, _ECA, _next(32, 4)),
    "seresnet18": _net(18, _SE),
    "seresnet34": _net(34, _SE),
    "seresnet50": _net(50, _SE),
    "seresnet50t": _net(50, _T, _SE),
    "seresnet101": _net(101, _SE),
    "seresnet152": _net(152, _SE),
    "seresnet152d": _net(152, _D, _SE, image_size=256),
    "seresnet200d": _net(200, _D, _SE, image_size=256),
    "seresnet269d": _net(269, _D, _SE, image_size=256),
    "seresnext26d_32x4d": _net(26, _D, _SE, _next(32, 4)),
    "seresnext26t_32x4d": _net(26, _T, _SE, _next(32, 4)),
    "seresnext50_32x4d": _net(50, _SE, _next(32, 4)),
    "seresnext101_32x4d": _net(101, _SE, _next(32, 4)),
    "seresnext101_32x8d": _net(101, _SE, _next(32, 8)),
    "seresnext101_64x4d": _net(101, _SE, _next(64, 4)),
    "seresnext101d_32x8d": _net(101, _D, _SE, _next(32, 8)),
    "senet154": _net(152, _S, _SE, _next(64, 4), reduce_first=2, shortcut="projection_3x3"),
    "resnetaa34d": _net(34, _D, _AVERAGE),
    "resnetaa50": _net(50, _AVERAGE),
    "resnetaa50d": _net(50, _D, _AVERAGE),
    "resnetaa101d": _net(101, _D, _AVERAGE),
    "seresnetaa50d": _net(50, _D, _SE, _AVERAGE),
    "seresnextaa101d_32x8d": _net(101, _D, _SE, _AVERAGE, _next(32, 8), image_size=288),
    "seresnextaa201d_32x8d": _net(201, _E, _SE, _AVERAGE, _next(32, 8), image_size=384),
    "resnetblur18": _net(18, _BLUR),
    "resnetblur50": _net(50, _BLUR),
    "resnetblur50d": _net(50, _D, _BLUR),
    "resnetblur101d": _net(101, _D, _BLUR),
    "resnetrs50": _net(50, _RS, image_size=160),
    "resnetrs101": _net(101, _RS, image_size=192),
    "resnetrs152": _net(152, _RS, image_size=256),
    "resnetrs200": _net(200, _RS, image_size=256),
    "resnetrs270": _net(270, _RS, image_size=256),
    "resnetrs350": _net(350, _RS, image_size=288),
    "resnetrs420": _net(420, _RS, image_size=320),
    "test_resnet": _net(
        10,
        _D,
        block=("basic", "basic", "bottleneck", "basic"),
        widths=(32, 48, 48, 96),
        image_size=160,
    ),
    "resnetv2_18": _net(18, V2),
    "resnetv2_18d": _net(18, V2, _D),
    "resnetv2_34": _net(34, V2),
    "resnetv2_34d": _net(34, V2, _D),
    "resnetv2_50": _net(50, V2),
    "resnetv2_50d": _net(50, V2, _D),
    "resnetv2_50t": _net(50, V2, _T),
    "resnetv2_50d_evos": _net(50, V2, _D, norm="evonorm_s0"),
    "resnetv2_50d_frn": _net(50, V2, _D, norm="frn"),
    "resnetv2_50d_gn": _net(50, V2, _D, norm="group"),
    "resnetv2_101": _net(101, V2),
    "resnetv2_101d": _net(101, V2, _D),
    "resnetv2_152": _net(152, V2),
    "resnetv2_152d": _net(152, V2, _D),
    "resnetv2_50x1_bit": _net(50, _BIT),
    "resnetv2_50x3_bit": _net(50, _BIT, _wider(3), image_size=448),
    "resnetv2_101x1_bit": _net(101, _BIT, image_size=448),
    "resnetv2_101x3_bit": _net(101, _BIT, _wider(3), image_size=448),
    "resnetv2_152x2_bit": _net(152, _BIT, _wider(2)),
    "resnetv2_152x4_bit": _net(152, _BIT, _wider(4), image_size=480),
    "resnest14d": _net(14, _D, _resnest()),
    "resnest26d": _net(26, _D, _resnest()),
    "resnest50d": _net(50, _D, _resnest()),
    "resnest50d_1s4x24d": _net(50, _D, _resnest(1, 24, 4)),
    "resnest50d_4s2x40d": _net(50, _D, _resnest(4, 40, 2)),
    "resnest101e": _net(101, _E, _resnest(), image_size=256),
    "resnest200e": _net(200, _E, _resnest(), image_size=320),
    "resnest269e": _net(269, _E, _resnest(), image_size=416),
    "skresnet18": _net(18, _selective(1 / 8, 16, True)),
    "skresnet34": _net(34, _selective(1 / 8, 16, True)),
    "skresnet50": _net(50, _selective(1 / 16, 8, True)),
    "skresnet50d": _net(50, _D, _selective(1 / 16, 8, True)),
    "skresnext50_32x4d": _net(50, _next(32, 4), _selective(1 / 16, 32, False)),
    "res2net50_14w_8s": _net(50, _res2net(14, 8)),
    "res2net50_26w_4s": _net(50, _res2net(26, 4)),
    "res2net50_26w_6s": _net(50, _res2net(26, 6)),
    "res2net50_26w_8s": _net(50, _res2net(26, 8)),
    "res2net50_48w_2s": _net(50, _res2net(48, 2)),
    "res2net50d": _net(50, _D, _res2net(26, 4)),
    "res2net101_26w_4s": _net(101, _res2net(26, 4)),
    "res2net101d": _net(101, _D, _res2net(26, 4)),
    "res2next50": _net(50, _res2net(4, 4, cardinality=8)),
}


def _pruned(*stages: tuple[Any, ...]) -> dict[str, Any]:
    """Return `pruned` from the output channels of each stage, then the two others of each block."""
    return dict(pruned=tuple(tuple((*pair, out) for pair in pairs) for out, *pairs in stages))


# Channels left by pruning (Aflalo et al., arXiv:2002.08258).
# fmt: off
RESNETS |= {
    "ecaresnet50d_pruned": RESNETS["ecaresnet50d"] | _pruned(
        (19, (47, 18), (52, 22), (64, 35)),
        (171, (85, 37), (107, 80), (120, 85), (125, 87)),
        (818, (198, 126), (255, 232), (256, 233), (253, 235), (256, 225), (256, 239)),
        (2022, (492, 237), (512, 500), (512, 490)),
    ),
    "ecaresnet101d_pruned": RESNETS["ecaresnet101d"] | _pruned(
        (26, (45, 25), (53, 20), (60, 27)),
        (142, (81, 24), (93, 49), (102, 54), (122, 78)),
        (278, (101, 25), (239, 160), (234, 156), (250, 176), (253, 191), (251, 175), (230, 128),
         (244, 154), (244, 159), (238, 97), (244, 149), (253, 181), (245, 119), (255, 216),
         (256, 201), (253, 149), (254, 141), (256, 190), (256, 217), (255, 156), (256, 155),
         (256, 232), (256, 214)),
        (2042, (499, 289), (512, 512), (512, 502)),
    ),
}
# fmt: on

DENSENETS: dict[str, dict[str, Any]] = {
    "densenet121": dict(stage_sizes=(6, 12, 24, 16)),
    "densenet161": dict(stage_sizes=(6, 12, 36, 24), growth_rate=48),
    "densenet169": dict(stage_sizes=(6, 12, 32, 32)),
    "densenet201": dict(stage_sizes=(6, 12, 48, 32)),
    "densenet264d": dict(stage_sizes=(6, 12, 64, 48), growth_rate=48, stem="deep"),
    "densenetblur121d": dict(stage_sizes=(6, 12, 24, 16), stem="deep", stem_pool="blur"),
}

UNETS: dict[str, dict[str, Any]] = {
    # With `same` padding, batch norms besides biases, and one output for each pixel.
    "unet": dict(),
    # Ronneberger et al., arXiv:1505.04597, figure 1.
    "unet_valid": dict(norm="none", padding="valid", num_classes=2, in_channels=1, image_size=572),
}

ENCODER_UNETS: dict[str, dict[str, Any]] = {
    f"unet_{name}": dict(encoder=name) for name in ("resnet18", "resnet34", "resnet50")
}
