"""The order of training examples and their random generators, as pure functions of the seed.

Training positions are 0, 1, 2, ...; position `p` of a source of `n` examples belongs to epoch
`p // n`, and each epoch visits the examples in the order of its own permutation. Batches are
consecutive ranges of positions, so the number of the next batch is the only state. With repeated
augmentation, consecutive positions of an epoch contain the same example.

A balanced epoch has `n` positions as well, in which all classes are equally frequent: it repeats
the examples of rare classes, and leaves some of the frequent ones to later epochs.
"""

import functools
import threading
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# The last counter word of Philox separates the kinds of streams.
_ORDER, _EXAMPLE, _CLASS = 0, 1, 2
_NO_BUFFER = np.zeros(4, np.uint64)
_thread = threading.local()


class Place(NamedTuple):
    """The example in one row of a batch."""

    epoch: int
    example: int
    """Its index in the source."""
    repeat: int
    """The number of earlier occurrences of the example in the epoch."""


@dataclass(frozen=True, eq=False)
class Members:
    """The examples of each class that has any, for balanced epochs."""

    examples: tuple[np.ndarray, ...]


# Two epochs, for a batch that spans both, times two pipelines that exist at once.
@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order, int64 (length,), in which an epoch visits its examples; read-only."""
    order = np.random.Generator(
        np.random.Philox(**_philox_start(seed, epoch, 0, _ORDER))
    ).permutation(length)
    order.flags.writeable = False
    return order


@functools.lru_cache(maxsize=4)
def balanced_order(
    members: Members, seed: int, epoch: int, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the examples of a balanced epoch, and how often each occurred in it before.

    Over all epochs, the numbers of visits to two classes differ by one at most, and so do those to
    two examples of a class, except within a block of its visits (see `_visited`).
    """
    classes, first = len(members.examples), epoch * length
    turns = np.arange(first, first + length) // classes
    examples = np.empty(length, np.int64)
    for number, own in enumerate(members.examples):
        here = slice((number - first) % classes, None, classes)
        examples[here] = _visited(own, seed, number, turns[here], -(-length // classes))
    examples = examples[permutation(seed, epoch, length)]
    sorting = np.argsort(examples, kind="stable")
    starts = np.flatnonzero(np.diff(examples[sorting], prepend=-1))
    earlier = np.empty(length, np.int64)
    earlier[sorting] = np.arange(length) - np.repeat(starts, np.diff(starts, append=length))
    return examples, earlier


def _visited(
    examples: np.ndarray, seed: int, number: int, turns: np.ndarray, share: int
) -> np.ndarray:
    """Return the example of class `number` at each of its turns, counted over all epochs.

    A block of turns is as long as an epoch's `share`, rounded up to whole rounds, and each round
    visits all examples in an order of its own.
    """
    rounds = -(-share // len(examples))
    blocks, steps = np.divmod(turns, rounds * len(examples))
    found = np.empty(len(turns), np.int64)
    for block in np.unique(blocks).tolist():
        rng = np.random.Generator(np.random.Philox(**_philox_start(seed, block, number, _CLASS)))
        order = rng.permuted(np.tile(examples, (rounds, 1)), axis=1).ravel()
        here = blocks == block
        found[here] = order[steps[here]]
    return found


def locate(
    position: int, seed: int, length: int, repeats: int = 1, members: Members | None = None
) -> Place:
    """Return the epoch and the example of a training position.

    An example fills `repeats` consecutive positions, and an epoch of `length` positions visits
    `length / repeats` examples (https://arxiv.org/abs/1901.09335).

    Args:
      members: makes the epochs balanced.
    """
    epoch, step = divmod(position, length)
    turn, repeat = divmod(step, repeats)
    if members is None:
        return Place(epoch, int(permutation(seed, epoch, length)[turn]), repeat)
    examples, earlier = balanced_order(members, seed, epoch, -(-length // repeats))
    return Place(epoch, int(examples[turn]), int(earlier[turn]) * repeats + repeat)


def position_of_row(number: int, row: int, batch_size: int, repeats: int = 1) -> int:
    """Return the training position of a row of global batch `number`.

    The rows take every `repeats`-th position first and then those in between. The repeats of an
    example are therefore as far apart as possible, so that small batch-norm groups contain each
    example once. `check_pairs` ensures that repeats are not mixed with each other.
    """
    for first in range(repeats):
        count = len(range(first, batch_size, repeats))
        if row < count:
            break
        row -= count
    return number * batch_size + first + row * repeats


def batch_places(
    number: int,
    rows: range,
    batch_size: int,
    seed: int,
    length: int,
    repeats: int = 1,
    members: Members | None = None,
) -> np.ndarray:
    """Return the `Place` of each of these rows of global batch `number`, int32 (rows, 3).

    The values are those of `position_of_row` and `locate`, computed a hundred times as fast.
    """
    order = np.concatenate([np.arange(first, batch_size, repeats) for first in range(repeats)])
    epochs, steps = np.divmod(number * batch_size + order[rows.start : rows.stop], length)
    turns, copies = np.divmod(steps, repeats)
    examples = np.empty_like(turns)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        if members is None:
            examples[here] = permutation(seed, epoch, length)[turns[here]]
            continue
        visited, earlier = balanced_order(members, seed, epoch, -(-length // repeats))
        examples[here] = visited[turns[here]]
        copies[here] += earlier[turns[here]] * repeats
    return np.stack([epochs, examples, copies], axis=1).astype(np.int32)


def example_rng(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """Return the generator of all random choices for one example in one epoch.

    The thread's next call resets the same generator: creating one takes 14 microseconds, as long
    as decoding a digit, and resetting one takes 4.
    """
    if not hasattr(_thread, "generator"):
        _thread.generator = np.random.Generator(np.random.Philox())
    _thread.generator.bit_generator.state = {
        "bit_generator": "Philox",
        "state": _philox_start(seed, epoch, index, _EXAMPLE, repeat),
        "buffer": _NO_BUFFER,
        "buffer_pos": len(_NO_BUFFER),
        "has_uint32": 0,
        "uinteger": 0,
    }
    return _thread.generator


def process_rows(batch_size: int, process_index: int, process_count: int) -> range:
    """Return the rows of every global batch that one process prepares."""
    start = process_index * batch_size // process_count
    return range(start, (process_index + 1) * batch_size // process_count)


def _philox_start(
    seed: int, epoch: int, index: int, kind: int, repeat: int = 0
) -> dict[str, np.ndarray]:
    # Philox is a function of (key, counter): seeds are not hashed, two keys never share a stream,
    # and drawing increments the lowest word, so streams that differ in a higher one never overlap.
    return {
        "key": np.array([seed % 2**64, epoch], np.uint64),
        "counter": np.array([0, repeat, index, kind], np.uint64),
    }
