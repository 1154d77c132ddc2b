"""Parameters that do not train, chosen by a pattern."""

import re
from typing import Any

import jax
import optax
from flax import traverse_util

from flax_resnet.errors import InputError
from flax_resnet.models import variable_shapes
from flax_resnet.models.parts import part_of, selected


def freeze_parameters(
    optimizer: optax.GradientTransformation, pattern: str
) -> optax.GradientTransformation:
    """Return `optimizer` for the parameters that `pattern` leaves out; the others stay as they are.

    Weight decay does not reach frozen parameters either, and they take no optimiser memory.
    """
    if not pattern:
        return optimizer

    def labels(params: Any) -> Any:
        def label(path: Any, leaf: Any) -> str:
            return "frozen" if selected(pattern, (key.key for key in path)) else "trained"

        return jax.tree_util.tree_map_with_path(label, params)

    return optax.partition({"trained": optimizer, "frozen": optax.set_to_zero()}, labels)


def check_pattern(name: str, pattern: str, model: Any, *, leaves_some: bool = False) -> None:
    """Raise `InputError` unless `pattern` selects some parameters of the model.

    Args:
      name: of the setting, for the message.
      leaves_some: it must not select all of them.
    """
    if not pattern:
        return
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"{name} is {pattern!r}, which is no regular expression: {error}"
        ) from None
    paths = list(traverse_util.flatten_dict(variable_shapes(model)["params"]))
    chosen = [path for path in paths if selected(pattern, path)]
    parts = ", ".join(sorted({part_of(path) for path in paths}))
    if not chosen:
        raise InputError(
            f"{name} is {pattern!r} and selects nothing; expected a pattern of parts ({parts}) "
            f"or of keys such as {'.'.join(paths[0][:-1])}"
        )
    if leaves_some and len(chosen) == len(paths):
        raise InputError(
            f"{name} is {pattern!r} and leaves nothing to train; the parts are {parts}"
        )
