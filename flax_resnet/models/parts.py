"""The parts of a network by the names of its variables, the same words for every family."""

import re
from collections.abc import Iterable

_PARTS = [
    (r"conv1|bn1|maxpool|stem|features\.(?:conv|norm)[012]", "stem"),
    (r"layer(?P<number>\d+)", "layer"),
    (r"features\.(?:denseblock|transition)(?P<number>\d+)", "layer"),
    (r"stages\.(?P<index>\d+)", "layer"),
]


def part_of(path: Iterable[str]) -> str:
    """Return `stem`, `layer1`, `layer2` ... or `head`, given the path of a variable or module."""
    key = ".".join(path)
    for pattern, part in _PARTS:
        match = re.match(rf"(?:{pattern})(?:\.|$)", key)
        if match:
            found = match.groupdict()
            return part + (found.get("number") or str(int(found["index"]) + 1) if found else "")
    return "head"


def selected(pattern: str, path: Iterable[str]) -> bool:
    r"""Say whether a regular expression matches the part that `path` belongs to, or its start.

    `stem|layer[12]` selects the same layers in every family; `layer3.0` or `.*\.bn1` select by
    the published key. The empty pattern selects nothing.
    """
    path = tuple(path)
    if not pattern:
        return False
    return any(
        re.match(rf"(?:{pattern})(?:\.|$)", name) for name in (part_of(path), ".".join(path))
    )
