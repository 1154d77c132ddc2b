"""The settings of a run: frozen dataclasses inside, `ml_collections` outside.

A recipe in `configs/` changes what `base_config()` returns, users change that on the command
line, and `parse` turns the outcome into a `TrainConfig`, or into an error that names the key.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict, config_dict

from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError, expected_names, require_known
from flax_resnet.training.tasks import TASKS


@dataclass(frozen=True)
class ModelConfig:
    """Choose a row of the table of models; None leaves an argument as the row has it."""

    name: str = "resnet50"
    dtype: str = "float32"
    """Compute dtype; bfloat16 on accelerators. Parameters and logits stay float32."""
    num_classes: int | None = None
    """None: as many as the data set has."""
    zero_init_last: bool | None = None
    norm_group: int | None = None
    """Images in one batch-norm group; None takes the global batch."""
    shortcut: str | None = None
    drop_path: float | None = None
    """How often the last block's branch is dropped (stochastic depth)."""
    dropout: float | None = None
    """Before the head."""
    base_width: int | None = None
    """Channels of a U-Net at full resolution."""
    encoder: str | None = None
    """The network that a U-Net sees with."""
    remat: bool | None = None
    """Save memory: compute the inside of blocks a second time for the gradient."""
    scan_blocks: bool | None = None
    """Compile equal blocks once."""
    pretrained: str | None = None
    """Weights to start from: a published name (`resnet50.a1_in1k`), a file, a folder or a run."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Choose how gradients become updates."""

    name: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4
    decay_norms: bool = True
    """False: weight decay leaves out biases, and scales and biases of norms."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Choose the learning rate over time."""

    name: str = "cosine"
    learning_rate: float = 0.1
    unit: str = "epoch"
    """What `warmup` and `boundaries` count: epoch or step."""
    warmup: float = 0.0
    """The length of the linear growth from nearly zero."""
    boundaries: tuple[float, ...] = ()
    """Where `step` multiplies by `factor`."""
    factor: float = 0.1


@dataclass(frozen=True)
class CheckpointConfig:
    """Choose what is kept on disk: the newest and the best, side by side."""

    keep_latest: int = 2
    keep_best: int = 1
    every_steps: int | None = None
    """Save this often besides after every evaluation; None: only then."""


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run."""

    task: str = "classification"
    """classification | segmentation: a class for every image, or for every pixel."""
    seed: int = 0
    epochs: float = 1.0
    steps: int | None = None
    """The length of the run; where both are given, in steps."""
    label_smoothing: float = 0.0
    dice_weight: float = 0.0
    """Of one minus the mean soft Dice, which segmentation adds to the cross-entropy."""
    freeze: str = ""
    """What does not train: a pattern of parts (`stem|layer[12]`) or of published keys."""
    freeze_norms: str | None = None
    """Which batch norms use their stored statistics in training; None: those in `freeze`."""
    eval_every_epochs: float = 1.0
    test_when_done: bool = False
    """Evaluate the best checkpoint on `data.test_split` when training ends."""
    log_every: int = 50
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)

    def __post_init__(self) -> None:
        """Refuse values that cannot work together."""
        for name in ("epochs", "steps", "eval_every_epochs", "log_every"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"config.{name} is {value}; expected a positive number")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"config.label_smoothing is {self.label_smoothing}; expected 0 to 1")
        require_known("config.task", self.task, TASKS)
        if self.dice_weight < 0 or (self.dice_weight and self.task != "segmentation"):
            raise InputError(
                f"config.dice_weight is {self.dice_weight}; expected a positive number, or 0 where "
                "config.task is not 'segmentation'"
            )
        if self.test_when_done and self.data.test_split is None:
            raise InputError("config.test_when_done needs config.data.test_split")

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of JSON types; `parse` reads them back."""
        return dataclasses.asdict(self)


def base_config() -> ConfigDict:
    """Return the defaults as a locked `ConfigDict`, for a recipe to change."""
    return _to_config_dict(TrainConfig(), TrainConfig)


def parse(config: ConfigDict | Mapping[str, Any] | TrainConfig) -> TrainConfig:
    """Check every key and type of `config` and return it as a `TrainConfig`.

    Raises:
      InputError: a key is unknown (the near ones are listed) or a value of the wrong type.
    """
    if isinstance(config, TrainConfig):
        return config
    values = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    parsed: TrainConfig = _parse_section(TrainConfig, values, "config")
    return parsed


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
            known = list(section.keys()) if isinstance(section, ConfigDict) else []
            if key not in known:
                raise InputError(f"--{name}: there is no {key!r}; {expected_names(key, known)}")
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
        return tuple(value)
    if plain is float and type(value) is int:
        return float(value)
    if type(value) is not plain:
        raise InputError(
            f"{name} is {value!r}, of type {type(value).__name__}; expected {plain.__name__}"
        )
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
