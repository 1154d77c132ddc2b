"""Apply a network to a stream of image files, in order, while threads decode ahead."""

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

# Batches that are decoded, or being decoded, while the network computes another.
_AHEAD = 2
Apply = Callable[[np.ndarray], np.ndarray]
Prepared = Future[np.ndarray | str]


class Output(NamedTuple):
    """The network's output for a file."""

    file: str
    values: np.ndarray | None
    """float32 (n,); None if the file cannot be read."""
    error: str | None


def outputs(predictor: Predictor, files: Iterable[str], apply: Apply) -> Iterator[Output]:
    """Yield an output for every file, in order.

    Threads decode a few batches ahead: the network does not wait, and memory stays small.

    Args:
      apply: maps prepared images to one row each, such as `predictor.probabilities`.
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
    """Return a prepared image, or the message of its error."""
    try:
        return predictor.prepare(read_file(Path(file)))
    except (DecodeError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)


def _applied(batch: list[tuple[str, Prepared]], apply: Apply) -> Iterator[Output]:
    results = [(file, prepared.result()) for file, prepared in batch]
    pixels = [value for _, value in results if isinstance(value, np.ndarray)]
    rows = iter(apply(np.stack(pixels)) if pixels else ())
    for file, value in results:
        if isinstance(value, str):
            yield Output(file, None, value)
        else:
            yield Output(file, next(rows), None)


TOP = 5
TopClasses = list[tuple[str, float]]


def top_classes(
    probabilities: np.ndarray | None, names: Sequence[str], count: int | None, least: float = 0.0
) -> TopClasses:
    """Return the most probable classes, the best first; [] for a file without output.

    Args:
      count: at most so many; None: five of those that exclude each other, and all others.
      least: the probability from which a class is returned, as in `Predictor.threshold`.
    """
    if probabilities is None:
        return []
    if count is None:
        count = len(names) if least else TOP
    order = (-probabilities).argsort(kind="stable")[:count]
    return [(names[at], float(probabilities[at])) for at in order if probabilities[at] >= least]


def classes_to_json(classes: TopClasses) -> list[dict[str, Any]]:
    """Return classes and probabilities as JSON values."""
    return [{"class": name, "score": score} for name, score in classes]


def output_to_json(output: Output, classes: TopClasses) -> dict[str, Any]:
    """Return a file with its classes, or with its error, as JSON values."""
    if output.error is not None:
        return {"file": output.file, "error": output.error}
    return {"file": output.file, "classes": classes_to_json(classes)}
