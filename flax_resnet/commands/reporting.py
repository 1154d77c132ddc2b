"""Reports of all commands: progress, a status, facts for programs, one message for an error."""

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress, TimeRemainingColumn

from flax_resnet.errors import InputError, printable

BAD_INPUT, FAULT, INTERRUPTED = 2, 70, 130
# Seconds between two lines of progress where there is no terminal for bars.
_SECONDS_PER_LINE = 10.0


class Done(NamedTuple):
    """How a command ended.

    Attributes:
      facts: what it found and wrote, for `--json`; None: it printed its JSON while it ran.
    """

    facts: dict[str, Any] | None
    status: int = 0


def print_warnings_plainly() -> None:
    """Print the warnings of this package as `warning: MESSAGE`, without the line of code."""
    usual, home = warnings.formatwarning, Path(__file__).parents[1]

    def plain(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is UserWarning and home in Path(filename).parents:
            return printable(f"warning: {message}", keep="\n") + "\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = plain


@contextlib.contextmanager
def silence(wanted: bool) -> Iterator[None]:
    """Discard standard output; warnings and errors go to standard error."""
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
        # A name in it may contain terminal control sequences.
        _end(BAD_INPUT, "error:", str(error))
    except KeyboardInterrupt:
        if debug:
            raise
        _end(INTERRUPTED, "interrupted")
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
