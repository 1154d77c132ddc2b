"""How every command tells of bad input: one message, no traceback, exit status 2."""

import contextlib
import sys
from collections.abc import Iterator

from flax_resnet.errors import InputError


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn an `InputError` into a message on standard error and exit status 2."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
