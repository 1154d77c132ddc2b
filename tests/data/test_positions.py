"""The order of the training examples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.data.positions import example_rng, locate, permutation, process_rows

seeds = st.integers(-(2**63), 2**64 - 1)
lengths = st.integers(1, 200)


@given(seeds, st.integers(0, 1000), lengths)
def test_an_epoch_visits_every_example_once(seed, epoch, length):
    visited = [locate(epoch * length + step, seed, length) for step in range(length)]
    assert {e for e, _ in visited} == {epoch}
    assert sorted(index for _, index in visited) == list(range(length))


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [permutation(seed, epoch, 50).tobytes() for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_the_order_is_fixed_for_all_time():
    # A change here would break the resumption of every run that was begun before it.
    assert permutation(0, 0, 8).tolist() == [5, 0, 6, 1, 7, 2, 4, 3]
    assert example_rng(1, 2, 3).integers(1000, size=3).tolist() == [120, 739, 743]


@given(seeds, st.integers(0, 100), st.integers(0, 10**7))
def test_an_example_has_random_choices_of_its_own(seed, epoch, index):
    def drawn(seed: int, epoch: int, index: int) -> bytes:
        return example_rng(seed, epoch, index).bytes(16)

    assert drawn(seed, epoch, index) == drawn(seed, epoch, index)
    others = {drawn(seed + 1, epoch, index), drawn(seed, epoch + 1, index)}
    assert drawn(seed, epoch, index) not in others | {drawn(seed, epoch, index + 1)}


@given(st.integers(1, 64), st.integers(1, 16))
def test_the_rows_of_all_processes_are_the_batch(batch_size, process_count):
    parts = [process_rows(batch_size, i, process_count) for i in range(process_count)]
    assert np.concatenate([np.asarray(part) for part in parts]).tolist() == list(range(batch_size))
