"""The parts of a network by the names of its variables, the same words for every family."""

import re
from collections.abc import Iterable

_PARTS = [
    (r"conv1|bn1|maxpool|stem|features\.(?:conv|norm)[012]", "stem"),
    (r"bottleneck", "bottleneck"),
    (r"(?:up|dec)(?P<number>\d+)", "decoder"),
    (r"enc(?P<number>\d+)", "layer"),
    (r"layer(?P<number>\d+)", "layer"),
    (r"features\.(?:denseblock|transition)(?P<number>\d+)", "layer"),
    (r"stages\.(?P<index>\d+)", "layer"),
]


def part_of(path: Iterable[str]) -> str:
    """Return `stem`, `layer1`, `layer2` ... or `head`, given the path of a variable or module.

    A `UNet` has no stem; between its last layer and its head it has a `bottleneck`, and then
    `decoder4` ... `decoder1`. A network inside another, its `encoder`, keeps its parts.
    """
    key = ".".join(path).removeprefix("encoder.")
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
