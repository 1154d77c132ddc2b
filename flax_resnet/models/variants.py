"""The table of networks: a name and the keyword arguments of its module."""

import fnmatch
from typing import Any

import jax.numpy as jnp

from flax_resnet.errors import require_known
from flax_resnet.models.resnet import ResNet


def _cifar(depth: int) -> dict[str, Any]:
    """He et al. 2015, section 4.2: 6n + 2 layers, widths 16 32 64, option A."""
    return dict(
        stage_sizes=((depth - 2) // 6,) * 3,
        widths=(16, 32, 64),
        stem="cifar",
        shortcut="zero_pad",
        num_classes=10,
        image_size=32,
        head_name="linear",
    )


VARIANTS: dict[str, dict[str, Any]] = {
    "resnet18": dict(stage_sizes=(2, 2, 2, 2), block="basic"),
    "resnet34": dict(stage_sizes=(3, 4, 6, 3), block="basic"),
    "resnet50": dict(stage_sizes=(3, 4, 6, 3), block="bottleneck"),
    "resnet101": dict(stage_sizes=(3, 4, 23, 3), block="bottleneck"),
    "resnet152": dict(stage_sizes=(3, 8, 36, 3), block="bottleneck"),
    **{f"cifar_resnet{depth}": _cifar(depth) for depth in (20, 32, 44, 56, 110, 1202)},
    # The lesson's network: two residual blocks without norms, then one dense layer.
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


def list_models(pattern: str = "*") -> list[str]:
    """Return the sorted names that match a shell pattern such as `resnet*`."""
    return sorted(fnmatch.filter(VARIANTS, pattern))


def create_model(name: str, **overrides: Any) -> ResNet:
    """Make the network called `name`, with any of its arguments replaced.

    `dtype` may be a dtype or its name (`"bfloat16"`).

    Raises:
      InputError: the name or an argument is unknown; the message lists the near ones.
    """
    require_known("the model", name, VARIANTS)
    fields = set(ResNet.__dataclass_fields__) - {"parent", "name"}
    for key in overrides:
        require_known(f"an argument of {name}", key, fields)
    arguments = VARIANTS[name] | overrides
    if "dtype" in arguments:
        arguments["dtype"] = _float_dtype(arguments["dtype"])
    return ResNet(**arguments)


def _float_dtype(dtype: Any) -> jnp.dtype:
    names = ("bfloat16", "float16", "float32", "float64")
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    require_known("dtype", name, names)
    return jnp.dtype(name)
