"""What is told of a picture: its likeliest classes, or why it could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flax_resnet.inference.stream import Output

Found = list[tuple[str, float]]


def best_classes(output: Output, names: Sequence[str], top: int) -> Found:
    """Return the likeliest classes with their probabilities; none of a file without."""
    if output.values is None:
        return []
    order = (-output.values).argsort(kind="stable")[:top]
    return [(names[at], float(output.values[at])) for at in order]


def as_dict(output: Output, found: Found) -> dict[str, Any]:
    """Return what JSON can hold."""
    if output.error is not None:
        return {"file": output.file, "error": output.error}
    classes = [{"class": name, "score": score} for name, score in found]
    return {"file": output.file, "classes": classes}
