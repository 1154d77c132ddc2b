"""Conversion of settings: `ml_collections` for users, frozen dataclasses for the code.

A recipe in `configs/` changes what `base_config()` returns, users change that on the command
line, and `parse` turns the result into a `TrainConfig`, or raises an error that names the key.
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
from flax_resnet.models.variants import all_argument_types, argument_types
from flax_resnet.onednn.choice import XLA
from flax_resnet.training.config import ModelConfig, TrainConfig

# The current keys of settings that earlier versions stored elsewhere.
_RENAMED = {"data.mask_values": "data.masks.values"} | {
    f"data.{field.name}": f"data.masks.{field.name}" for field in dataclasses.fields(MaskConfig)
}
# Random seeds and steps have to fit into 64 bits.
_LARGEST = 2**63 - 1
# Arguments of networks that other settings determine.
_ELSEWHERE = {
    "in_channels": "config.data.channels",
    "image_size": "config.data.image_size",
    "frozen": "config.freeze",
}


def base_config(data: str | None = None) -> ConfigDict:
    """Return the defaults as a locked `ConfigDict`, for a recipe to change.

    Args:
      data: a name of `PRESETS`, whose settings replace the defaults of `config.data`.
    """
    config = _to_config_dict(TrainConfig(), TrainConfig)
    if data is not None:
        require_known("a preset of config.data", data, PRESETS)
        config.data.update(PRESETS[data])
    return config


def chosen_config(choice: str, data: str, model: str) -> ConfigDict:
    """Return `base_config` with the data set and the model that follow a recipe's colon.

    Args:
      choice: a model, a name of `PRESETS`, or both, as in `cifar100/wrn_28_10`.
      data, model: the recipe's defaults.
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
      InputError: a key is unknown (similar ones are listed), or a value has the wrong type.
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
    # Earlier versions had no others.
    renamed.setdefault("cpu_kernels", XLA)
    if renamed.get("distill", {}).get("teacher") is not None:
        renamed["distill"].setdefault("size", "student")
    # Earlier versions ignored the settings for masks where the source has none.
    data = renamed.get("data", {})
    if not str(data.get("source", "")).startswith("masks:"):
        data.pop("masks", None)
    return renamed


def check_overrides(config: ConfigDict, arguments: list[str]) -> None:
    """Check the keys of command-line arguments such as `--config.data.flip=False`.

    Raises:
      InputError: the config does not have a key; similar ones are listed.
    """
    for argument in arguments:
        name = argument.split("=", 1)[0].lstrip("-")
        if not argument.startswith("-") or not name.startswith("config."):
            continue
        section: Any = config
        for key in name.split(".")[1:]:
            if not isinstance(section, ConfigDict):
                raise InputError(f"--{name}: there is no {key!r}; expected one value there")
            if section is config.model and key in _ELSEWHERE:
                raise InputError(f"--{name}: set {_ELSEWHERE[key]} instead")
            if key not in section:
                near = expected_names(key, section.keys())
                raise InputError(f"--{name}: there is no {key!r}; {near}")
            section = section[key]


def _to_config_dict(values: Any, kind: type) -> ConfigDict:
    result = ConfigDict()
    for entry, hint in _fields(kind):
        value = getattr(values, entry.name)
        if entry.name == "arguments":
            for key, argument in _network_arguments(all_argument_types()).items():
                result[key] = config_dict.placeholder(_plain(argument))
        elif dataclasses.is_dataclass(hint):
            result[entry.name] = _to_config_dict(value, typing.cast(type, hint))
        elif _optional(hint):
            result[entry.name] = config_dict.placeholder(_plain(hint))
            result[entry.name] = value
        else:
            result[entry.name] = value
    return result.lock()


def _parse_section(kind: type, values: Mapping[str, Any], where: str) -> Any:
    if kind is ModelConfig:
        return _parse_model(values, where)
    hints = {entry.name: hint for entry, hint in _fields(kind)}
    return kind(**_parse_values(hints, values, where))


def _parse_values(
    hints: Mapping[str, Any], values: Mapping[str, Any], where: str
) -> dict[str, Any]:
    parsed = {}
    for key, value in values.items():
        require_known(f"a key of {where}", key, hints)
        hint, name = hints[key], f"{where}.{key}"
        if not dataclasses.is_dataclass(hint):
            parsed[key] = _parse_value(value, hint, name)
        elif isinstance(value, Mapping):
            parsed[key] = _parse_section(typing.cast(type, hint), value, name)
        else:
            raise InputError(f"{name} is {value!r}; expected a section of settings")
    return parsed


def _parse_model(values: Mapping[str, Any], where: str) -> ModelConfig:
    """Parse the settings of a network; an argument that is None keeps the table's value."""
    hints = {entry.name: hint for entry, hint in _fields(ModelConfig) if entry.name != "arguments"}
    own = {key: value for key, value in values.items() if key in hints}
    config = ModelConfig(**_parse_values(hints, own, where))
    everything = hints | _network_arguments(all_argument_types())
    for key in values:
        if key in _ELSEWHERE:
            raise InputError(f"{where}.{key} is {values[key]!r}; set {_ELSEWHERE[key]} instead")
        require_known(f"a key of {where}", key, everything)
    given = {key: value for key, value in values.items() if key not in hints and value is not None}
    if not given:
        return config
    known = _network_arguments(argument_types(config.name))
    for key in given:
        require_known(f"an argument of {config.name} in {where}", key, known)
    ordered = {key: given[key] for key in known if key in given}
    return dataclasses.replace(config, arguments=_parse_values(known, ordered, where))


def _network_arguments(types_: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `config.model` takes besides the fields of `ModelConfig`."""
    named = _ELSEWHERE.keys() | {entry.name for entry in dataclasses.fields(ModelConfig)}
    # `create_model` takes an encoder's name.
    return {key: str if hint is Any else hint for key, hint in types_.items() if key not in named}


def _parse_value(value: Any, hint: Any, name: str) -> Any:
    if value is None and _optional(hint):
        return None
    options = [part for part in _options(hint) if part is not types.NoneType]
    if len(options) > 1 and isinstance(value, str) and "," in value:
        value = tuple(value.split(","))  # the command line takes one entry for each stage
    hint = options[0]
    for option in options[1:]:
        if isinstance(value, list | tuple) and _plain(option) is tuple:
            hint = option
    plain = _plain(hint)
    if plain is tuple and isinstance(value, (list, tuple)):
        # `tuple[float, float]` and `tuple[float, ...]`: all entries have the first one's type.
        entry = typing.get_args(hint)[0]
        return tuple(_parse_value(each, entry, f"an entry of {name}") for each in value)
    if plain is float and type(value) is int and abs(value) <= _LARGEST:
        return float(value)
    if type(value) is not plain:
        raise InputError(
            f"{name} is {value!r}, of type {type(value).__name__}; expected {plain.__name__}"
        )
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:  # also refuses NaN
        raise InputError(f"{name} is {value!r}; expected a number up to {_LARGEST:.0e}")
    return value


def _fields(kind: type) -> list[tuple[dataclasses.Field[Any], Any]]:
    hints = typing.get_type_hints(kind)
    return [(entry, hints[entry.name]) for entry in dataclasses.fields(kind)]


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _optional(hint: Any) -> bool:
    return types.NoneType in _options(hint)


def _plain(hint: Any) -> type:
    """Return the first type in `X | None` and in `X | Y`, and `tuple` for `tuple[X, ...]`."""
    hint = next(part for part in _options(hint) if part is not types.NoneType)
    return typing.get_origin(hint) or hint
