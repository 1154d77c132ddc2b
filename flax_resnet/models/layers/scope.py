"""Names: where a layer's variables lie, and which part of a network they belong to."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn


class Scope(nn.Module):
    """Run functions whose layers get this module's name in front of theirs.

    Published keys such as `stages.0.blocks.1.conv1` have levels that compute nothing.
    """

    @nn.compact
    def __call__(self, body: Callable[..., Any], *args: Any) -> Any:
        return body(*args)


def within(names: tuple[str, ...], body: Callable[..., Any], *args: Any) -> Any:
    """Run `body(*args)` with these names, outermost first, in front of its layers' names."""
    if not names:
        return body(*args)
    return Scope(name=names[0])(within, names[1:], body, *args)
