"""Fingerprints of user-defined code and data, by which a run recognizes its parts."""

import functools
import hashlib
import inspect
import sys
import sysconfig
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flax_resnet.data import Source
from flax_resnet.data.images.decode import DecodeError

_PLAIN = (str, bytes, int, float, complex, bool, types.NoneType, types.EllipsisType)
# What Python and Flax add to a class.
_ADDED = ("__doc__", "__module__", "__firstlineno__")


def fingerprint(part: Any) -> str:
    """Return the name of an object, and a digest of its code and the values in it.

    Functions are told by their bytecode, so that comments do not count, and by what they refer to:
    closures, defaults, and functions and plain values of their module. Code of installed packages
    is told by its name. Arrays count with their numbers.
    """
    digest = hashlib.blake2b(digest_size=8)
    for word in _Reader().words(part):
        digest.update(word.encode("utf-8", "surrogatepass") + b"\0")
    return f"{_name(part)} {digest.hexdigest()}"


def digest_of_examples(source: Source) -> str:
    """Return the name of a source, its length and a digest of its classes and a few examples."""
    digest = hashlib.blake2b(repr(source.class_names).encode(), digest_size=8)
    for index in sorted({0, len(source) // 2, len(source) - 1}):
        try:
            example = source[index]
        except (OSError, DecodeError):  # training reports it, or skips it
            continue
        image = example["image"]
        digest.update(image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes())
        digest.update(repr(example["label"]).encode())
    return f"{source.name}, {len(source)} examples {digest.hexdigest()}"


class _Reader:
    """Describes values by words, each object once, so that one may contain itself."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}

    def words(self, value: Any) -> list[str]:
        """Return words that describe a value; equal values have the same words."""
        if isinstance(value, _PLAIN):
            return [f"{type(value).__name__} {value!r}"]
        if id(value) in self._seen:
            return ["again"]
        self._seen[id(value)] = value  # kept, so that no other object gets its number
        if isinstance(value, (np.ndarray, np.generic, jax.Array)):
            array = np.asarray(value)
            digest = hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8)
            return [f"{array.dtype} {array.shape} {digest.hexdigest()}"]
        if isinstance(value, Mapping):
            return ["map", *self._each(part for item in value.items() for part in item)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(" ".join(self.words(part)) for part in value)]
        if isinstance(value, (tuple, list)):
            return [f"{type(value).__name__} of {len(value)}", *self._each(value)]
        if isinstance(value, types.CodeType):
            names = [*value.co_names, *value.co_freevars]
            return [value.co_code.hex(), *names, *self._each(value.co_consts)]
        if isinstance(value, functools.partial):
            return ["partial", *self._each((value.func, value.args, value.keywords))]
        if isinstance(value, types.MethodType):
            return ["method", *self._each((value.__func__, value.__self__))]
        if isinstance(value, types.ModuleType):
            return [f"module {value.__name__}"]
        if isinstance(value, type):
            return self._of_class(value)
        function = inspect.unwrap(value) if callable(value) else value
        if isinstance(function, types.FunctionType):
            return self._of_function(function)
        return self._of_object(value)

    def _each(self, values: Any) -> list[str]:
        return [word for value in values for word in self.words(value)]

    def _of_function(self, function: types.FunctionType) -> list[str]:
        words = [_name(function)] if _is_installed(function.__module__) else []
        inner = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        inner += [function.__defaults__, function.__kwdefaults__]
        if not words:
            names = _referred(function.__code__)
            known = function.__globals__
            inner += [function.__code__, *(known[name] for name in names if name in known)]
        return [*words, *self._each(inner)]

    def _of_class(self, kind: type) -> list[str]:
        if _is_installed(kind.__module__):
            return [_name(kind)]
        own = {}
        for name, value in sorted(vars(kind).items()):
            inner = value.fget if isinstance(value, property) else inspect.unwrap(value)
            code = getattr(inner, "__code__", None)
            # Decorators such as dataclass's write methods of their own.
            written = code is not None and not (
                name.startswith("__") and code.co_filename == "<string>"
            )
            if written or (isinstance(inner, _PLAIN) and name not in _ADDED):
                own[name] = inner
        return [kind.__name__, *self._each((*kind.__bases__, own))]

    def _of_object(self, value: Any) -> list[str]:
        fields = getattr(value, "__dict__", {})
        if isinstance(value, nn.Module):
            names = type(value).__dataclass_fields__.keys() - {"parent", "name"}
            fields = {name: fields.get(name) for name in sorted(names)}
        return [*self.words(type(value)), *self._each(fields.values()), *fields]


def _name(part: Any) -> str:
    while isinstance(part, functools.partial):
        part = part.func
    named = inspect.unwrap(part) if callable(part) else part
    if not hasattr(named, "__qualname__"):
        named = type(named)
    return f"{named.__module__}.{named.__qualname__}"


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # not assigned yet
        return False


def _referred(code: types.CodeType) -> list[str]:
    """Return the global names that code refers to, with those of the functions in it."""
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return [*code.co_names, *(name for each in inner for name in _referred(each))]


@functools.cache
def _is_installed(module: str) -> bool:
    """Return whether a module belongs to Python, to this package or to an installed package."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names - {"__main__"} or top in ("flax_resnet", "builtins"):
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return any(Path(file).is_relative_to(place) for place in places)
