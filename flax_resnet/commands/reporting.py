"""How every command tells of bad input: one message, no traceback, exit status 2."""

import contextlib
import sys
from collections.abc import Iterator

from flax_resnet.errors import InputError
from flax_resnet.printable import printable


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn an `InputError` into a message on standard error and exit status 2."""
    try:
        yield
    except InputError as error:
        # A name in it may hold what a terminal takes for a command.
        print("error:", printable(str(error), keep="\n"), file=sys.stderr)
        raise SystemExit(2) from None
