"""Networks by name: the union of all tables."""

import dataclasses
import fnmatch
import functools
import types
import typing
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from flax_resnet.errors import InputError, require_free, require_known
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


# The names of networks that `register_model` has added.
_OWN: set[str] = set()


def register_model(name: str, module: type[nn.Module], **arguments: Any) -> None:
    """Add a network of your own to the table, for `create_model`, `config.model.name` and the rest.

    Args:
      module: a class of Linen modules with a field `num_classes`, called as
        `module(images, train=False)` with float32 NHWC images; it returns logits. Where it has the
        fields `dtype`, `in_channels` and `image_size`, they are filled in.
      arguments: values of other fields. `config.model.FIELD` changes those that are numbers, words,
        flags or tuples of these.

    Raises:
      InputError: the name is taken, or the class is not such a module.
    """
    require_free("a network", name, VARIANTS, _OWN)
    if not (isinstance(module, type) and issubclass(module, nn.Module)):
        raise InputError(f"the network {name!r} is {module!r}; expected a class of Linen modules")
    fields = _argument_types(module)
    if "num_classes" not in fields:
        raise InputError(f"{module.__name__} has no field num_classes; expected num_classes: int")
    for key in arguments:
        require_known(f"an argument of {name}", key, fields)
    _OWN.add(name)
    VARIANTS[name], _MODULES[name] = arguments, module


def own_model(name: str) -> functools.partial[Any] | None:
    """Return the class and the arguments that `register_model` was given; None for other names."""
    return functools.partial(_MODULES[name], **VARIANTS[name]) if name in _OWN else None


def require_built_in(model: Any, what: str) -> None:
    """Raise `InputError` if a network is user-defined, where `what` needs one of this package."""
    if not isinstance(model, Network):
        raise InputError(
            f"{type(model).__name__} is a network of your own; {what} needs one of this package"
        )


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
    module = _MODULES.get(name, ResNet)
    for entry in dataclasses.fields(module):
        required = entry.default is entry.default_factory  # both are missing
        if entry.init and required and entry.name not in arguments:
            raise InputError(f"{name} has no default for {entry.name}; expected a value for it")
    network: Network = module(**arguments)
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
    own = (
        (key, kind)
        for name in sorted(_OWN)
        for key, kind in _argument_types(_MODULES[name]).items()
        if _is_setting(kind)
    )
    return dict(own) | {
        key: kind for each in (ResNet, *_OTHERS) for key, kind in _argument_types(each).items()
    }


def _is_setting(kind: Any) -> bool:
    """Return whether a configuration can hold values of a type."""
    parts = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    plain = {typing.get_origin(part) or part for part in parts}
    return plain <= {int, float, str, bool, tuple, types.NoneType} and plain != {types.NoneType}


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
