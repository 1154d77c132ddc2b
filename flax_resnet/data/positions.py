"""Where every example of a training run comes from: pure functions of the seed.

The stream of training positions is 0, 1, 2, ...; position `p` of `n` examples lies in epoch
`p // n`, and an epoch visits its examples in the order of its own permutation. Batches are
consecutive runs of positions, so the number of the next batch is all the state there is.
"""

from __future__ import annotations

import functools
import threading

import numpy as np

# The last counter word of Philox keeps the two kinds of stream apart.
_ORDER, _EXAMPLE = 0, 1
_NO_BUFFER = np.zeros(4, np.uint64)
_thread = threading.local()


# Two epochs for a batch that straddles them, each for two pipelines that are alive at once.
@functools.lru_cache(maxsize=4)
def permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order, int64 (length,), in which an epoch visits its examples; read-only."""
    order = np.random.Generator(
        np.random.Philox(**_philox_start(seed, epoch, 0, _ORDER))
    ).permutation(length)
    order.flags.writeable = False
    return order


def locate(position: int, seed: int, length: int) -> tuple[int, int]:
    """Return the epoch of a training position and the index of its example."""
    epoch, step = divmod(position, length)
    return epoch, int(permutation(seed, epoch, length)[step])


def example_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator of all random choices for one example in one epoch.

    A thread's next call sets the same generator anew: making one takes 14 microseconds, which is
    as long as decoding a digit, and setting one 4.
    """
    if not hasattr(_thread, "generator"):
        _thread.generator = np.random.Generator(np.random.Philox())
    _thread.generator.bit_generator.state = {
        "bit_generator": "Philox",
        "state": _philox_start(seed, epoch, index, _EXAMPLE),
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


def _philox_start(seed: int, epoch: int, index: int, kind: int) -> dict[str, np.ndarray]:
    # Philox is a function of (key, counter): no seed is hashed, no two keys share a stream, and
    # drawing counts up from the lowest word, so streams that differ in a higher one never meet.
    return {
        "key": np.array([seed % 2**64, epoch], np.uint64),
        "counter": np.array([0, 0, index, kind], np.uint64),
    }
