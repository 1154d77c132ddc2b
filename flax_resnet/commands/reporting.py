"""Reports of all commands: progress, a status, facts for programs, one message for an error."""

import codecs
import contextlib
import datetime
import io
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rich.progress import Progress, TimeRemainingColumn

from flax_resnet.errors import InputError, printable
from flax_resnet.interrupts import EXIT_STOPPED, LINE

BAD_INPUT, FAULT = 2, 70
# Seconds between two lines of progress where there is no terminal for bars.
_SECONDS_PER_LINE = 10.0
SECONDS_PER_SIGN = 30.0


class Done(NamedTuple):
    """How a command ended.

    Attributes:
      facts: what it found and wrote, for `--json`; None: it printed its JSON while it ran.
    """

    facts: dict[str, Any] | None
    status: int = 0


@contextlib.contextmanager
def any_text() -> Iterator[None]:
    r"""Let standard input and output take any text and file name, whatever their encoding.

    A character that an output does not have is written as an escape, such as \xe4. A byte of a
    file name that is not UTF-8 is read and written as it is.
    """
    streams: list[Any] = [
        (sys.stdin, "surrogateescape"),
        (sys.stdout, _ESCAPED),
    ]
    changed = [pair for pair in streams if isinstance(pair[0], io.TextIOWrapper)]
    before = [stream.errors for stream, _ in changed]
    for stream, errors in changed:
        stream.reconfigure(errors=errors)
    try:
        yield
    finally:
        for (stream, _), errors in zip(changed, before, strict=True):
            with contextlib.suppress(ValueError):  # It is closed.
                stream.reconfigure(errors=errors)


_ESCAPED = "flax_resnet.escaped"


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode the characters that an encoding does not have: a handler for `codecs`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), end
    return character.encode("ascii", "backslashreplace"), end


codecs.register_error(_ESCAPED, _escape)


@contextlib.contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Discard standard output; warnings and errors go to standard error."""
    if not wanted:
        yield
        return
    with open(os.devnull, "w", errors="replace") as nowhere, contextlib.redirect_stdout(nowhere):  # noqa: PTH123
        yield


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Print a warning of this package, or of its user's code, as one line."""
    usual = warnings.formatwarning

    def short(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is not UserWarning:
            return usual(message, category, filename, lineno, line)
        return printable(f"warning: {message}", keep="\n") + "\n"

    warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = usual


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
        # A name in it may contain terminal control sequences.
        _end(BAD_INPUT, "error:", str(error))
    except KeyboardInterrupt:
        if debug:
            raise
        _end(EXIT_STOPPED, LINE)
    except BrokenPipeError:
        # The reader, such as `head`, has closed the pipe. Python would complain on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


@contextlib.contextmanager
def no_tracebacks(debug: bool) -> Iterator[None]:
    """Report internal errors in one line as well, with a hint on how to see more."""
    try:
        yield
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {error}"
        _end(FAULT, "internal error:", f"{what}\nThis is a bug of flax_resnet; --debug shows where")


def _end(status: int, *words: str) -> None:
    print(*(printable(word, keep="\n") for word in words), file=sys.stderr)
    raise SystemExit(status) from None


@contextlib.contextmanager
def signs_of_life(describe: Callable[[], str]) -> Iterator[None]:
    """Print what is going on, and for how long, every half a minute while the block runs."""
    ended, began = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(SECONDS_PER_SIGN):
            elapsed = datetime.timedelta(seconds=round(time.monotonic() - began))
            print(f"{describe()}: {elapsed} so far", file=sys.stderr, flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextlib.contextmanager
def progress_report() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a function of (what, done, total): bars on a terminal, else a line now and then."""
    if sys.stderr.isatty():
        columns = [*Progress.get_default_columns()[:-1], TimeRemainingColumn()]
        with Progress(*columns) as bars:
            tasks: dict[str, int] = {}

            def draw(what: str, done: int, total: int) -> None:
                task = tasks.setdefault(what, len(tasks))
                if task == len(bars.tasks):
                    bars.add_task(what, total=total)
                bars.update(bars.tasks[task].id, completed=done)

            yield draw
    else:
        printed: dict[str, float] = {}

        def write(what: str, done: int, total: int) -> None:
            now = time.monotonic()
            if done == total or now - printed.setdefault(what, now) >= _SECONDS_PER_LINE:
                printed[what] = now
                print(f"{what}: {done:,} of {total:,} ({done / total:.0%})", flush=True)

        yield write
