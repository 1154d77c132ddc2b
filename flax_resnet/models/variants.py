"""Networks by name: the union of all tables."""

import fnmatch
import typing
from typing import Any

import jax.numpy as jnp

from flax_resnet.errors import require_known
from flax_resnet.models.densenet import DenseNet
from flax_resnet.models.highway import Highway
from flax_resnet.models.resnet import ResNet
from flax_resnet.models.table import DENSENETS, ENCODER_UNETS, RESNETS, UNETS
from flax_resnet.models.table_cifar import CIFAR_DENSENETS, CIFAR_RESNETS, HIGHWAYS
from flax_resnet.models.unet import UNet
from flax_resnet.models.unet_encoder import EncoderUNet

Network = ResNet | DenseNet | Highway | UNet | EncoderUNet
# The rows of each module other than `ResNet`.
_OTHERS: dict[Any, dict[str, dict[str, Any]]] = {
    DenseNet: DENSENETS | CIFAR_DENSENETS,
    Highway: HIGHWAYS,
    UNet: UNETS,
    EncoderUNet: ENCODER_UNETS,
}
_MODULES = {name: module for module, rows in _OTHERS.items() for name in rows}
VARIANTS: dict[str, dict[str, Any]] = RESNETS | CIFAR_RESNETS
for _rows in _OTHERS.values():
    VARIANTS |= _rows


def list_models(pattern: str = "*") -> list[str]:
    """Return the sorted names that match a shell pattern such as `resnet*`."""
    return sorted(fnmatch.filter(VARIANTS, pattern))


def create_model(name: str, **overrides: Any) -> Network:
    """Return the network called `name`, with any of its arguments replaced.

    `dtype` can be a dtype or its name (`"bfloat16"`), `encoder` a network or its name.

    Raises:
      InputError: the name or an argument is unknown; the message lists similar ones.
    """
    known = argument_types(name)
    for key in overrides:
        require_known(f"an argument of {name}", key, known)
    arguments = VARIANTS[name] | overrides
    if "dtype" in arguments:
        arguments["dtype"] = _float_dtype(arguments["dtype"])
    if isinstance(arguments.get("encoder"), str):
        arguments["encoder"] = create_model(arguments["encoder"], num_classes=0)
    network: Network = _MODULES.get(name, ResNet)(**arguments)
    return network


def argument_types(name: str) -> dict[str, Any]:
    """Return the type of each argument of the network called `name`.

    Raises:
      InputError: the name is unknown; the message lists similar names.
    """
    require_known("the model", name, VARIANTS)
    return _argument_types(_MODULES.get(name, ResNet))


def all_argument_types() -> dict[str, Any]:
    """Return the type of each argument that any network takes."""
    return {key: kind for each in (ResNet, *_OTHERS) for key, kind in _argument_types(each).items()}


def _argument_types(module: Any) -> dict[str, Any]:
    fields = module.__dataclass_fields__.keys() - {"parent", "name"}
    return {key: kind for key, kind in typing.get_type_hints(module).items() if key in fields}


def _float_dtype(dtype: Any) -> jnp.dtype:
    names = ("bfloat16", "float16", "float32", "float64")
    try:
        name = jnp.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    require_known("dtype", name, names)
    return jnp.dtype(name)
