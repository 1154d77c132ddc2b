"""Batches pass through reused blocks unchanged and are never overwritten."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections import deque
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet import InputError
from flax_resnet.data.batches.loading import Batch
from flax_resnet.data.batches.shared_memory import (
    BatchLocation,
    BlockReader,
    BlockWriter,
    has_memory_files,
)

pytestmark = pytest.mark.skipif(not has_memory_files(), reason="this system has no in-memory files")


def batch(number: int) -> Batch:
    """Return a batch whose contents and size depend on its number."""
    rows = 1 + number % 7
    image = np.full((rows, 5, 3, 3), number % 251, np.uint8)
    found = {"image": image, "label": np.full(rows, number, np.int32), "mask": image[:, 0, 0] > 9}
    return cast(Batch, found)


def same(found: Batch, number: int) -> bool:
    expected = cast(dict[str, np.ndarray], batch(number))
    items = cast(dict[str, np.ndarray], found).items()
    return found.keys() == expected.keys() and all(
        value.dtype == expected[key].dtype and np.array_equal(value, expected[key])
        for key, value in items
    )


@given(st.lists(st.booleans(), max_size=60))
def test_batches_are_unchanged_for_any_number_in_transfer(write_next: list[bool]) -> None:
    writer, reader, unread = BlockWriter(batch), BlockReader(), deque[tuple[int, BatchLocation]]()
    most = 0
    for number, write in enumerate(write_next):
        if write:
            unread.append((number, writer(number)))
            most = max(most, len(unread))
        elif unread:
            first, location = unread.popleft()
            assert same(reader(location), first)
    for number, location in unread:
        assert same(reader(location), number)
    assert len(writer._blocks) == most


def test_a_batch_that_was_read_is_a_copy() -> None:
    writer, reader = BlockWriter(batch), BlockReader()
    first = reader(writer(3))
    reader(writer(10))  # of the same size, in the same memory
    assert same(first, 3)
    assert first["image"].flags.owndata
    assert first["image"].flags.writeable


def test_a_worker_that_has_ended_is_named() -> None:
    location = BlockWriter(batch)(1)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], text=True,
                          capture_output=True, check=True)  # fmt: skip
    lost = BatchLocation(int(gone.stdout), location.file, location.size, location.arrays)
    with pytest.raises(InputError, match=rf"worker process {lost.process} .* has ended"):
        BlockReader()(lost)


def test_a_batch_that_has_arrived_can_be_read_after_its_worker_has_ended() -> None:
    program = """
        import pickle, sys
        from flax_resnet.data.batches.shared_memory import BlockWriter
        from tests.data.batches.test_shared_memory import batch
        writer = BlockWriter(batch)
        sys.stdout.buffer.write(pickle.dumps(writer(4)))
        sys.stdout.flush()
        sys.stdin.read()
    """
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert worker.stdout is not None
    location = pickle.load(worker.stdout)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    assert same(BlockReader()(location), 4)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="/dev/shm does not exist")
def test_workers_use_no_space_in_dev_shm_and_leave_nothing_there() -> None:
    program = """
        import os
        from flax_resnet.data import (DataConfig, open_source, train_batches)
        if __name__ == "__main__":
            config = DataConfig(source="synthetic", image_size=64, batch_size=64, workers=2)
            batches = train_batches(open_source(config, "train"), config, seed=0, num_batches=6)
            before = set(os.listdir("/dev/shm"))
            for batch in batches:
                blocks = {name for name in os.listdir("/dev/shm") if name.startswith("psm_")}
                print(len(blocks - before))
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert told.stdout.split() == ["0"] * 6
