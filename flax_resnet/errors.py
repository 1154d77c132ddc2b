"""The exception for unusable input, checks that raise it, and printable names for messages."""

import contextlib
import difflib
import functools
import os
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path

# An address such as gs://bucket/run; `Path` removes one of its slashes. Sources of data that are
# written KIND:PATH are not addresses, even if their PATH starts with slashes.
_ADDRESS = re.compile(r"(?!(?:csv|folder|masks):)([a-z][\w+.-]+):/(/?)", re.IGNORECASE)
_ADDRESS_ADVICE = {
    "file": "write the path without file://",
    "hf": "weights of the hub are named hub:OWNER/NAME, its data sets hf:OWNER/NAME",
    "http": "download it first; weights of the hub are named hub:OWNER/NAME",
    "https": "download it first; weights of the hub are named hub:OWNER/NAME",
}
# The longest list of names in a message; longer ones are cut to the near names.
_LISTED = 20


class InputError(ValueError):
    """Unusable input: the message says what was found, what was expected and what to do.

    The command line prints its message without a traceback and exits with status 2; code that
    imports the library can catch it as a `ValueError`.
    """


@contextlib.contextmanager
def about(what: str | os.PathLike[str]) -> Iterator[None]:
    """Put `what`, such as a file's name, before the message of an `InputError` of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{os.fspath(what)}: {error}") from error


def require_known(what: str, found: object, known: Iterable[str]) -> None:
    """Raise `InputError` with the near names unless `found` is one of the `known` names."""
    names = sorted(known)
    if found not in names:
        raise InputError(f"{what} is {found!r}; {expected_names(found, names)}")


def require_free(what: str, name: str, known: Mapping[str, object], own: Container[str]) -> None:
    """Raise `InputError` unless `name` can be given to a user-defined part.

    Args:
      what: the part is called, such as "a network".
      known: all names that are taken; `own` are those among them that may be given again, as by a
        recipe that is read twice.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", name):
        raise InputError(
            f"{what} of your own is called {name!r}; expected letters, digits and _ . -"
        )
    if name in known and name not in own:
        raise InputError(
            f"{what} of your own is called {name!r}, which is a name of this package: choose "
            "another"
        )


def require_registered(what: str, name: str, known: Container[str], register: str) -> None:
    """Raise `InputError` unless the function `register` has added `name` to the `known` ones."""
    if name not in known:
        raise InputError(
            f"{what} is {name!r}, which {register} has not added: call it first, in commands by "
            "--import MODULE"
        )


def require_local(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` if a path is an address, such as `gs://bucket/run`, or was made of one."""
    found = _ADDRESS.match(os.fspath(path))
    if found is None or (isinstance(path, str) and not found[2]):
        return
    shown = printable(f"{found[1]}://{os.fspath(path)[found.end() :]}")
    usual = "copy it to this machine, or mount it and pass the folder of the mount"
    raise InputError(
        f"{shown} is an address; expected a path on this machine, because only local files and "
        f"folders are read and written: {_ADDRESS_ADVICE.get(found[1].lower(), usual)}"
    )


def expected_names(found: object, known: Iterable[str]) -> str:
    """Return the end of an error message: the names that were expected, or the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(str(found), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if len(names) > _LISTED:
        return f"it is not one of the {len(names)} known names.{hint}"
    return f"expected one of {', '.join(names)}.{hint}"


def shortened(names: Iterable[str], most: int = _LISTED) -> str:
    """Return a list of names for a message, with the number of those that it leaves out."""
    listed = [printable(name) for name in names]
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def near_paths(missing: Path) -> str:
    """Return the end of an error message: existing paths near one that does not exist, or "".

    A folder of another name may be part of the path, and backslashes may separate its parts.
    """
    near = [path for path in _near(Path(str(missing).replace("\\", "/"))) if path != Path()]
    if near:
        return f" Did you mean {' or '.join(repr(str(path)) for path in near)}?"
    names = sorted(_entries(missing.parent))
    listed = 0 < len(names) <= _LISTED and missing.parent != Path()
    return f" {missing.parent} has {', '.join(names)}." if listed else ""


def _near(missing: Path) -> list[Path]:
    if missing.exists():
        return [missing]
    folders = _near(missing.parent)
    found = [
        folder / name
        for folder in folders
        for name in difflib.get_close_matches(missing.name, _entries(folder), n=3, cutoff=0.5)
    ]
    return (found or [folder for folder in folders if folder != missing.parent])[:3]


def _entries(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:  # not a folder, or a locked one
        return []


@functools.cache
def warn_once(message: str) -> None:
    """Warn of something that a program may meet again and again, the first time."""
    warnings.warn(message, stacklevel=3)


def split_assignment(text: str, what: str, form: str = "NAME=VALUE") -> tuple[str, str]:
    """Return the name and the value of `NAME=VALUE`.

    Args:
      what: where the text was given, for the message.
      form: how it should be written, for the message.

    Raises:
      InputError: the equals sign is missing.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"{what} is {text!r}; expected {form}")
    return name, value


def install_extra(extra: str) -> str:
    """Return how an optional part of this package is installed, for a message."""
    # No index has the package, so its name alone would install nothing, or a stranger's package.
    return f"pip install '.[{extra}]' in a checkout, or 'FILE.whl[{extra}]' with the wheel's path"


def printable(text: str | os.PathLike[str], keep: str = "") -> str:
    r"""Return text with escapes for unprintable characters: \n, \x1b, and \xff for invalid UTF-8.

    Args:
      keep: characters to leave unchanged, such as line breaks.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Python decodes an invalid byte of a file name as U+DC80 to U+DCFF.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
