"""Workers' batches in memory that is used again: copied out whole, and never written over."""

from __future__ import annotations

import os
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
from flax_resnet.data.batches.shared_memory import Borrower, Lender, Loan, can_lend

pytestmark = pytest.mark.skipif(not can_lend(), reason="this system has no files in memory")


def batch(number: int) -> Batch:
    """Return a batch that tells its number, of a size that depends on it."""
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
def test_a_batch_is_what_was_lent_however_many_are_on_their_way(lend_next: list[bool]) -> None:
    lender, borrower, lent = Lender(batch), Borrower(), deque[tuple[int, Loan]]()
    most = 0
    for number, lend in enumerate(lend_next):
        if lend:
            lent.append((number, lender(number)))
            most = max(most, len(lent))
        elif lent:
            first, loan = lent.popleft()
            assert same(borrower(loan), first)
    for number, loan in lent:
        assert same(borrower(loan), number)
    assert len(lender._blocks) == most


def test_a_batch_is_the_borrowers_own() -> None:
    lender, borrower = Lender(batch), Borrower()
    first = borrower(lender(3))
    borrower(lender(10))  # of the same size, in the same memory
    assert same(first, 3)
    assert first["image"].flags.owndata
    assert first["image"].flags.writeable


def test_a_worker_that_is_gone_is_named() -> None:
    loan = Lender(batch)(1)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], text=True,
                          capture_output=True, check=True)  # fmt: skip
    lost = Loan(int(gone.stdout), loan.file, loan.size, loan.arrays)
    with pytest.raises(InputError, match=rf"worker process {lost.process} .* has ended"):
        Borrower()(lost)


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no such folder")
def test_workers_need_no_room_in_shared_memory_and_leave_nothing_there() -> None:
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
