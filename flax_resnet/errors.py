"""The exception for unusable input, checks that raise it, and printable names for messages."""

import difflib
import os
from collections.abc import Iterable

# The longest list of names in a message; longer ones are cut to the near names.
_LISTED = 20


class InputError(ValueError):
    """Unusable input: the message says what was found, what was expected and what to do.

    The command line prints its message without a traceback and exits with status 2; code that
    imports the library can catch it as a `ValueError`.
    """


def require_known(what: str, found: object, known: Iterable[str]) -> None:
    """Raise `InputError` with the near names unless `found` is one of the `known` names."""
    names = sorted(known)
    if found not in names:
        raise InputError(f"{what} is {found!r}; {expected_names(found, names)}")


def expected_names(found: object, known: Iterable[str]) -> str:
    """Return the end of an error message: the names that were expected, or the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(str(found), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if len(names) > _LISTED:
        return f"it is not one of the {len(names)} known names.{hint}"
    return f"expected one of {', '.join(names)}.{hint}"


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
