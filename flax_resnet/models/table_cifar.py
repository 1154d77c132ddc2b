"""The table of networks for small images: CIFAR's 32x32 pixels and ten classes, and MNIST's."""

from typing import Any

from flax_resnet.models.table import V2

_CIFAR = dict(widths=(16, 32, 64), stem="cifar", num_classes=10, image_size=32)


def _cifar(depth: int, layers: int, **arguments: Any) -> dict[str, Any]:
    """Return three stages with `depth` layers in total, whose blocks have `layers` layers each."""
    return dict(_CIFAR, stage_sizes=((depth - 2) // (3 * layers),) * 3, **arguments)


def _wide(depth: int, factor: int) -> dict[str, Any]:
    """Return a wide residual network (Zagoruyko and Komodakis, arXiv:1605.07146)."""
    row = _cifar(depth, 2, block="basic", **V2)
    return row | dict(widths=(16 * factor, 32 * factor, 64 * factor), stem_width=16)


CIFAR_RESNETS: dict[str, dict[str, Any]] = {
    # He et al. 2015, section 4.2: option A.
    **{
        f"cifar_resnet{depth}": _cifar(depth, 2, shortcut="zero_pad", head_name="linear")
        for depth in (20, 32, 44, 56, 110, 1202)
    },
    # He et al. 2016, arXiv:1603.05027.
    "cifar_preact_resnet110": _cifar(110, 2, **V2),
    "cifar_preact_resnet164": _cifar(164, 3, block="bottleneck", **V2),
    "cifar_preact_resnet1001": _cifar(1001, 3, block="bottleneck", **V2),
    **{
        f"wrn_{depth}_{factor}": _wide(depth, factor)
        for depth, factor in ((16, 8), (22, 8), (28, 2), (28, 10), (40, 2), (40, 4), (40, 10))
    },
    # Two residual blocks without norms, then one dense layer.
    "mnist_resnet": dict(
        stage_sizes=(2,),
        widths=(32,),
        stem="cifar",
        norm="none",
        pool="flatten",
        num_classes=10,
        in_channels=1,
        image_size=28,
    ),
}


def _cifar_dense(depth: int, growth_rate: int, *, compressed: bool) -> dict[str, Any]:
    """Return three dense blocks for 32x32 images, with or without bottlenecks and compression."""
    return dict(
        stage_sizes=((depth - 4) // (6 if compressed else 3),) * 3,
        growth_rate=growth_rate,
        bottleneck=4 if compressed else 0,
        compression=0.5 if compressed else 1.0,
        stem="cifar",
        num_classes=10,
        image_size=32,
    )


CIFAR_DENSENETS: dict[str, dict[str, Any]] = {
    "cifar_densenet40_12": _cifar_dense(40, 12, compressed=False),
    "cifar_densenet100_12": _cifar_dense(100, 12, compressed=False),
    "cifar_densenet_bc100_12": _cifar_dense(100, 12, compressed=True),
    "cifar_densenet_bc190_40": _cifar_dense(190, 40, compressed=True),
    "cifar_densenet_bc250_24": _cifar_dense(250, 24, compressed=True),
}

HIGHWAYS: dict[str, dict[str, Any]] = {
    # arXiv:1505.00387, section 3.1: thin networks for MNIST, whose first layer is a plain one. The
    # depth includes the output layer.
    **{
        f"highway{depth}": dict(
            stage_sizes=(depth - 1,), widths=(50,), in_channels=1, image_size=28
        )
        for depth in (10, 50)
    },
    # 18 convolutions and a head, with the widths of a FitNet.
    "highway_conv19": dict(stage_sizes=(5, 6, 6), widths=(48, 80, 128), kind="conv"),
}
