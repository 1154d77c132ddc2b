"""Validated access to the fields of a JSON object from an untrusted file."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flax_resnet.errors import InputError


@dataclass(frozen=True)
class Fields:
    """The fields of an object. Methods return None for a missing field, and raise for a bad one."""

    values: Mapping[str, Any]
    where: str
    """The file, for errors."""

    def section(self, name: str) -> "Fields":
        """Return an object inside this one, or an object without fields if it is missing."""
        found = self.values.get(name) or {}
        return Fields(self._checked(name, found, isinstance(found, dict), "an object"), self.where)

    def text(self, name: str) -> str | None:
        """Return a string."""
        found = self.values.get(name)
        return self._checked(name, found, found is None or isinstance(found, str), "a string")

    def whole(self, name: str, highest: int) -> int | None:
        """Return a whole number from 0 to `highest`."""
        found = self.values.get(name)
        valid = found is None or _is_whole(found, 0, highest)
        return self._checked(name, found, valid, f"a whole number from 0 to {highest}")

    def positive(self, name: str) -> float | None:
        """Return a positive number."""
        found = self.values.get(name)
        valid = found is None or (_is_number(found) and found > 0)
        return self._checked(name, found, valid, "a positive number")

    def numbers(self, name: str) -> tuple[float, ...] | None:
        """Return a list of numbers."""
        found = self.values.get(name)
        if found is None:
            return None
        valid = isinstance(found, list) and bool(found) and all(map(_is_number, found))
        return tuple(self._checked(name, found, valid, "a list of numbers"))

    def labels(self, name: str, highest: int) -> dict[int, str]:
        """Return texts by their number, from a list or an object; {} if it is missing."""
        found = self.values.get(name, [])
        items: Iterable[tuple[Any, Any]] = ()
        if isinstance(found, list | dict):
            items = found.items() if isinstance(found, dict) else enumerate(found)
        labels = {int(key): text for key, text in items if _is_label(key, text, highest)}
        valid = isinstance(found, list | dict) and len(labels) == len(found)
        self._checked(name, found, valid, "a list of strings, or an object of them by number")
        return labels

    def texts(self, name: str) -> dict[str, str]:
        """Return an object of strings; {} if it is missing."""
        found = dict(self.section(name).values)
        valid = all(isinstance(text, str) for text in found.values())
        return self._checked(name, found, valid, "an object of strings")

    def side(self, name: str, highest: int) -> int | None:
        """Return the last entry of a list such as [3, 224, 224]: (channels, height, width)."""
        found = self.values.get(name)
        if found is None:
            return None
        valid = isinstance(found, list) and bool(found) and _is_whole(found[-1], 1, highest)
        expected = f"a list such as [3, 224, 224], of sides of at most {highest} pixels"
        return self._checked(name, found, valid, expected)[-1]

    def _checked(self, name: str, found: Any, valid: bool, expected: str) -> Any:
        if not valid:
            raise InputError(
                f"{self.where} has {name} {_short(found)}; expected {expected}. Fix or remove it."
            )
        return found


def read_fields(text: str | bytes, where: str) -> Fields:
    """Return the fields of a JSON object; `where` names the file in errors.

    Raises:
      InputError: the text is not JSON, or not an object.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not JSON ({error}): fix or remove it") from error
    if not isinstance(found, dict):
        raise InputError(f"{where} contains a {type(found).__name__}: expected a JSON object")
    return Fields(found, where)


def _is_whole(value: Any, lowest: int, highest: int) -> bool:
    return type(value) is int and lowest <= value <= highest


def _is_label(key: str | int, text: Any, highest: int) -> bool:
    number = type(key) is int or (len(str(key)) < 10 and str(key).isdecimal())
    return number and int(key) <= highest and isinstance(text, str)


def _is_number(value: Any) -> bool:
    # JSON files can contain NaN, or numbers that overflow a float.
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]} ..."
