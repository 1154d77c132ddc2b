"""The settings that experiments with training share, and settings written as `name=value`."""

import dataclasses
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from flax_resnet.data import DataConfig
from flax_resnet.errors import InputError, require_known, split_assignment
from flax_resnet.lab.datasets import DATASETS

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Training:
    """How the networks of an experiment are trained."""

    data: str = "digits"
    """A name of `flax_resnet.lab.datasets`, or a source such as folder:PATH."""
    data_dir: str | None = None
    """The folder of TFDS data."""
    train_split: str | None = None
    test_split: str | None = None
    image_size: int | None = None
    """None: the size of the dataset."""
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    warmup: float = 1.0
    """Epochs until the learning rate reaches its maximum; then it follows a cosine."""
    weight_decay: float = 1e-4
    seeds: int = 3
    """Number of networks of each kind, each with its own initial weights and order of images."""

    def __post_init__(self) -> None:
        """Refuse numbers below 1."""
        for name in ("epochs", "batch_size", "seeds"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")

    def data_config(self) -> DataConfig:
        """Return the settings of the data pipeline."""
        base = DATASETS.get(self.data) or DataConfig(source=self.data)
        changes: dict[str, Any] = dict(
            data_dir=self.data_dir,
            train_split=self.train_split,
            test_split=self.test_split,
            image_size=self.image_size,
            batch_size=self.batch_size,
        )
        given = {name: value for name, value in changes.items() if value is not None}
        return dataclasses.replace(base, **given)


def change_settings(settings: Settings, assignments: Iterable[str]) -> Settings:
    """Return `settings` changed by assignments such as `depths=20,56`.

    Raises:
      InputError: a name is unknown, or a value has the wrong type.
    """
    hints = typing.get_type_hints(type(settings))
    changes = {}
    for assignment in assignments:
        name, text = split_assignment(assignment, "a setting", "name=value")
        require_known("a setting of this experiment", name, hints)
        changes[name] = _read(text, hints[name], name)
    return dataclasses.replace(typing.cast(Any, settings), **changes)


def to_words(settings: Any) -> list[str]:
    """Return settings as the assignments that `change_settings` reads."""
    return [f"{name}={_write(value)}" for name, value in dataclasses.asdict(settings).items()]


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_write, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _read(text: str, hint: Any, name: str) -> Any:
    if isinstance(hint, types.UnionType):
        if text == "none":
            return None
        hint = next(part for part in typing.get_args(hint) if part is not types.NoneType)
    if typing.get_origin(hint) is tuple:
        kind = typing.get_args(hint)[0]
        return tuple(_read(part, kind, name) for part in text.split(",") if part)
    if hint is bool and text in ("true", "false"):
        return text == "true"
    try:
        return {int: int, float: float, str: str}[hint](text)
    except (KeyError, ValueError):
        raise InputError(f"{name} is {text!r}; expected {_describe(hint)}") from None


def _describe(hint: Any) -> str:
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(hint, str(hint))
