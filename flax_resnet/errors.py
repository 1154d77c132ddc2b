"""The one exception for input that the library cannot use, and how it names near words."""

import difflib
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
