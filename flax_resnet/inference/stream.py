"""From picture files to what a network says of them, in order, a few batches at a time."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flax_resnet.data.batches.workers import available_cores, single_threaded_opencv
from flax_resnet.data.images.decode import DecodeError, read_file
from flax_resnet.inference.predictor import Predictor

# Batches that are decoded, or being decoded, while the network is at work on another.
_AHEAD = 2
Apply = Callable[[np.ndarray], np.ndarray]
Prepared = Future[np.ndarray | str]


class Output(NamedTuple):
    """What a network says of a file."""

    file: str
    values: np.ndarray | None
    """float32 (n,); None where the file cannot be read."""
    error: str | None


def outputs(predictor: Predictor, files: Iterable[str], apply: Apply) -> Iterator[Output]:
    """Yield an output for every file, in order.

    Threads decode ahead of the network, so far that it need not wait and memory stays small.

    Args:
      apply: from prepared pictures to a row for each, such as `predictor.probabilities`.
    """
    single_threaded_opencv()
    waiting: deque[list[tuple[str, Prepared]]] = deque()
    remaining = iter(files)
    with ThreadPoolExecutor(available_cores()) as pool:
        while batch := list(itertools.islice(remaining, predictor.batch_size)):
            waiting.append([(file, pool.submit(_prepared, predictor, file)) for file in batch])
            if len(waiting) > _AHEAD:
                yield from _applied(waiting.popleft(), apply)
        while waiting:
            yield from _applied(waiting.popleft(), apply)


def _prepared(predictor: Predictor, file: str) -> np.ndarray | str:
    """Return a prepared picture, or what is wrong with it."""
    try:
        return predictor.prepare(read_file(Path(file)))
    except (DecodeError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)


def _applied(batch: list[tuple[str, Prepared]], apply: Apply) -> Iterator[Output]:
    found = [(file, prepared.result()) for file, prepared in batch]
    pixels = [value for _, value in found if isinstance(value, np.ndarray)]
    rows = iter(apply(np.stack(pixels)) if pixels else ())
    for file, value in found:
        if isinstance(value, str):
            yield Output(file, None, value)
        else:
            yield Output(file, next(rows), None)


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
