"""Settings as people write them: `ml_collections` outside, frozen dataclasses inside.

A recipe in `configs/` changes what `base_config()` returns, users change that on the command
line, and `parse` turns the outcome into a `TrainConfig`, or into an error that names the key.
"""

import copy
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from flax_resnet.data.config import PRESETS, MaskConfig
from flax_resnet.errors import InputError, expected_names, require_known
from flax_resnet.training.config import TrainConfig

# Where settings of runs of earlier versions are now.
_RENAMED = {"data.mask_values": "data.masks.values"} | {
    f"data.{field.name}": f"data.masks.{field.name}" for field in dataclasses.fields(MaskConfig)
}
# What fits 64 bits, as random seeds and steps have to.
_LARGEST = 2**63 - 1


def base_config(data: str | None = None) -> ConfigDict:
    """Return the defaults as a locked `ConfigDict`, for a recipe to change.

    Args:
      data: a name of `PRESETS`, whose settings take the place of `config.data`'s defaults.
    """
    config = _to_config_dict(TrainConfig(), TrainConfig)
    if data is not None:
        require_known("a preset of config.data", data, PRESETS)
        config.data.update(PRESETS[data])
    return config


def chosen_config(choice: str, data: str, model: str) -> ConfigDict:
    """Return `base_config` with the data set and the model that stand behind a recipe's colon.

    Args:
      choice: a model, a name of `PRESETS`, or both, as in `cifar100/wrn_28_10`.
      data, model: the recipe's own, for what is left out.
    """
    first, slash, rest = choice.partition("/")
    if slash or first in PRESETS:
        data, choice = first, rest
    config = base_config(data)
    config.model.name = choice or model
    return config


def parse(config: ConfigDict | Mapping[str, Any] | TrainConfig) -> TrainConfig:
    """Check every key and type of `config` and return it as a `TrainConfig`.

    Raises:
      InputError: a key is unknown (the near ones are listed) or a value of the wrong type.
    """
    if isinstance(config, TrainConfig):
        return config
    values = config.to_dict() if isinstance(config, ConfigDict) else config
    if not isinstance(values, Mapping):
        raise InputError(f"the config is {values!r}; expected sections of settings")
    parsed: TrainConfig = _parse_section(TrainConfig, values, "config")
    return parsed


def parse_stored(values: Mapping[str, Any]) -> TrainConfig:
    """Return the `TrainConfig` that a run of this or an earlier version has stored."""
    return parse(rename_stored(values))


def rename_stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored settings with the keys of earlier versions replaced by the current ones."""
    renamed: dict[str, Any] = copy.deepcopy(dict(values))
    for old, new in _RENAMED.items():
        *path, name = old.split(".")
        section = functools.reduce(lambda part, key: part.get(key, {}), path, renamed)
        if name in section:
            value = section.pop(name)
            *path, name = new.split(".")
            section = functools.reduce(lambda part, key: part.setdefault(key, {}), path, renamed)
            section[name] = value
    # Earlier versions ignored the settings for masks where the source has none.
    data = renamed.get("data", {})
    if not str(data.get("source", "")).startswith("masks:"):
        data.pop("masks", None)
    return renamed


def check_overrides(config: ConfigDict, arguments: list[str]) -> None:
    """Check the keys of command-line arguments such as `--config.data.flip=False`.

    Raises:
      InputError: a key is none of the config's; the near ones are listed.
    """
    for argument in arguments:
        name = argument.split("=", 1)[0].lstrip("-")
        if not argument.startswith("-") or not name.startswith("config."):
            continue
        section: Any = config
        for key in name.split(".")[1:]:
            if not isinstance(section, ConfigDict):
                raise InputError(f"--{name}: there is no {key!r}; expected one value there")
            if key not in section:
                near = expected_names(key, section.keys())
                raise InputError(f"--{name}: there is no {key!r}; {near}")
            section = section[key]


def _to_config_dict(values: Any, kind: type) -> ConfigDict:
    result = ConfigDict()
    for entry, hint in _fields(kind):
        value = getattr(values, entry.name)
        if dataclasses.is_dataclass(hint):
            result[entry.name] = _to_config_dict(value, typing.cast(type, hint))
        elif _optional(hint):
            result[entry.name] = config_dict.placeholder(_plain(hint))
            result[entry.name] = value
        else:
            result[entry.name] = value
    return result.lock()


def _parse_section(kind: type, values: Mapping[str, Any], where: str) -> Any:
    hints = {entry.name: hint for entry, hint in _fields(kind)}
    arguments = {}
    for key, value in values.items():
        require_known(f"a key of {where}", key, hints)
        hint, name = hints[key], f"{where}.{key}"
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise InputError(f"{name} is {value!r}; expected a section of settings")
            value = _parse_section(typing.cast(type, hint), value, name)
        else:
            value = _parse_value(value, hint, name)
        arguments[key] = value
    return kind(**arguments)


def _parse_value(value: Any, hint: Any, name: str) -> Any:
    if value is None and _optional(hint):
        return None
    plain = _plain(hint)
    if plain is tuple and isinstance(value, (list, tuple)):
        # `tuple[float, float]` and `tuple[float, ...]`: all entries are of the first one's type.
        entry = typing.get_args(hint)[0]
        return tuple(_parse_value(each, entry, f"an entry of {name}") for each in value)
    if plain is float and type(value) is int and abs(value) <= _LARGEST:
        return float(value)
    if type(value) is not plain:
        raise InputError(
            f"{name} is {value!r}, of type {type(value).__name__}; expected {plain.__name__}"
        )
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:  # NaN is none of both.
        raise InputError(f"{name} is {value!r}; expected a number up to {_LARGEST:.0e}")
    return value


def _fields(kind: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return [(entry, hints[entry.name]) for entry in dataclasses.fields(kind)]


def _optional(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) and types.NoneType in typing.get_args(hint)


def _plain(hint: Any) -> type:
    """Return the type behind `X | None` and `tuple[X, ...]`."""
    if _optional(hint):
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    return typing.get_origin(hint) or hint
