"""How every command ends: with a status, facts for programs, and one message if it went wrong."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

from flax_resnet.errors import InputError, printable

BAD_INPUT, FAULT, INTERRUPTED = 2, 70, 130


class Done(NamedTuple):
    """How a command ended.

    Attributes:
      facts: what it found and wrote, for `--json`; None: it has said so while it ran.
    """

    facts: dict[str, Any] | None
    status: int = 0


@contextlib.contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Throw standard output away; warnings and errors go elsewhere."""
    if not wanted:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


@contextlib.contextmanager
def clear_errors(debug: bool = False) -> Iterator[None]:
    """Turn an exception into a message on standard error and an exit status.

    Args:
      debug: let exceptions pass, so that Python shows where they come from.
    """
    try:
        yield
    except InputError as error:
        if debug:
            raise
        # A name in it may hold what a terminal takes for a command.
        _end(BAD_INPUT, "error:", str(error))
    except KeyboardInterrupt:
        if debug:
            raise
        _end(INTERRUPTED, "interrupted")
    except BrokenPipeError:
        # Whoever read this has seen enough, as `head` does. Python would complain at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


@contextlib.contextmanager
def no_tracebacks(debug: bool) -> Iterator[None]:
    """Tell of faults of ours in a line, too, and say how to see more."""
    try:
        yield
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {error}"
        _end(FAULT, "internal error:", f"{what}\nThat is a fault of ours; --debug shows where.")


def _end(status: int, *words: str) -> None:
    print(*(printable(word, keep="\n") for word in words), file=sys.stderr)
    raise SystemExit(status) from None
