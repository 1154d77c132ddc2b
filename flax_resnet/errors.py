"""The exception for input that the library cannot use, and how messages name things."""

import difflib
import os
from collections.abc import Iterable

# A list that a reader takes in at a glance; longer ones show the near names alone.
_LISTED = 20


class InputError(ValueError):
    """Tell the user what was found, what was expected and what to do next.

    The command line prints its message without a traceback and exits with status 2; code that
    imports the library can catch it as a `ValueError`.
    """


def require_known(what: str, found: object, known: Iterable[str]) -> None:
    """Raise `InputError` with the near names unless `found` is one of the `known` names."""
    names = sorted(known)
    if found not in names:
        raise InputError(f"{what} is {found!r}; {expected_names(found, names)}")


def expected_names(found: object, known: Iterable[str]) -> str:
    """Write the end of an error's sentence: the names that would have done, nearest first."""
    names = sorted(known)
    near = difflib.get_close_matches(str(found), names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if len(names) > _LISTED:
        return f"it is none of the {len(names)} known names.{hint}"
    return f"expected one of {', '.join(names)}.{hint}"


def printable(text: str | os.PathLike[str], keep: str = "") -> str:
    r"""Write what is not printable as escapes: \n, \x1b, and \xff where a name is no UTF-8.

    Args:
      keep: characters that stay as they are, such as line breaks.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Python reads a byte of a name that is no UTF-8 as U+DC80 to U+DCFF.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
