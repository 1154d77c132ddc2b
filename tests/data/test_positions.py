"""The order of the training examples."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.data.positions import (
    Members,
    balanced_order,
    batch_places,
    example_rng,
    locate,
    permutation,
    position_of_row,
    process_rows,
)

seeds = st.integers(-(2**63), 2**64 - 1)
lengths = st.integers(1, 200)


@given(seeds, st.integers(0, 1000), lengths)
def test_an_epoch_visits_every_example_once(seed, epoch, length):
    visited = [locate(epoch * length + step, seed, length) for step in range(length)]
    assert {(place.epoch, place.repeat) for place in visited} == {(epoch, 0)}
    assert sorted(place.example for place in visited) == list(range(length))


def test_every_epoch_and_seed_has_its_own_order():
    orders = [permutation(seed, epoch, 50).tobytes() for seed in range(5) for epoch in range(5)]
    assert len(set(orders)) == 25


def test_the_order_never_changes():
    # A change here would break resuming every run that was started before it.
    assert permutation(0, 0, 8).tolist() == [5, 0, 6, 1, 7, 2, 4, 3]
    assert example_rng(1, 2, 3).integers(1000, size=3).tolist() == [120, 739, 743]


@given(seeds, st.integers(0, 1000), lengths, st.integers(1, 5))
def test_an_epoch_with_repeats_holds_a_fraction_of_the_examples(seed, epoch, length, repeats):
    visited = [locate(epoch * length + step, seed, length, repeats) for step in range(length)]
    order = permutation(seed, epoch, length)[: -(-length // repeats)]
    assert [place.example for place in visited] == np.repeat(order, repeats)[:length].tolist()
    assert [place.repeat for place in visited] == [step % repeats for step in range(length)]
    assert {place.epoch for place in visited} == {epoch}


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 6))
def test_the_rows_of_a_batch_hold_all_its_positions(number, batch_size, repeats):
    held = [position_of_row(number, row, batch_size, repeats) for row in range(batch_size)]
    assert sorted(held) == list(range(number * batch_size, (number + 1) * batch_size))
    if repeats == 1:
        assert held == sorted(held)


@given(seeds, st.integers(0, 99), st.integers(1, 40), lengths, st.integers(1, 4), st.data())
def test_the_places_of_a_batch_are_those_of_its_rows(
    seed, number, batch_size, length, repeats, data
):
    start = data.draw(st.integers(0, batch_size - 1))
    rows = range(start, data.draw(st.integers(start + 1, batch_size)))
    expected = [
        locate(position_of_row(number, row, batch_size, repeats), seed, length, repeats)
        for row in rows
    ]
    found = batch_places(number, rows, batch_size, seed, length, repeats)
    np.testing.assert_array_equal(found, expected)


@given(seeds, st.integers(0, 9), st.integers(2, 4), st.integers(2, 9))
def test_the_repeats_of_an_example_are_far_apart_in_its_batch(seed, number, repeats, examples):
    rows, batch_size = range(repeats * examples), repeats * examples
    held = [position_of_row(number, row, batch_size, repeats) for row in rows]
    indices = [locate(position, seed, 10**4, repeats).example for position in held]
    for index in set(indices):
        assert np.diff(np.flatnonzero(np.array(indices) == index)).tolist() == [examples] * (
            repeats - 1
        )


@given(seeds, st.integers(0, 100), st.integers(0, 10**7))
def test_every_example_has_its_own_random_choices(seed, epoch, index):
    def drawn(seed: int, epoch: int, index: int) -> bytes:
        return example_rng(seed, epoch, index).bytes(16)

    assert drawn(seed, epoch, index) == drawn(seed, epoch, index)
    others = {drawn(seed + 1, epoch, index), drawn(seed, epoch + 1, index)}
    others |= {example_rng(seed, epoch, index, repeat).bytes(16) for repeat in range(1, 4)}
    assert len(others) == 5
    assert drawn(seed, epoch, index) not in others | {drawn(seed, epoch, index + 1)}


@given(st.integers(1, 64), st.integers(1, 16))
def test_the_rows_of_all_processes_are_the_batch(batch_size, process_count):
    parts = [process_rows(batch_size, i, process_count) for i in range(process_count)]
    assert np.concatenate([np.asarray(part) for part in parts]).tolist() == list(range(batch_size))


def members(*counts: int) -> Members:
    """Return classes of these sizes, of which examples 0, 1, ... are in turn."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return Members(tuple(np.flatnonzero(labels == each) for each in range(len(counts))))


sizes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


@given(seeds, st.integers(0, 1000), sizes)
def test_a_balanced_epoch_visits_all_classes_equally_often(seed, epoch, counts):
    length, labels = sum(counts), np.repeat(np.arange(len(counts)), counts)
    examples, earlier = balanced_order(members(*counts), seed, epoch, length)
    visits = np.bincount(labels[examples], minlength=len(counts))
    assert len(examples) == length
    assert visits.max() - visits.min() <= 1
    # Each visit of an example has random choices of its own.
    assert len(set(zip(examples.tolist(), earlier.tolist(), strict=True))) == length
    for example in set(examples.tolist()):
        assert earlier[examples == example].tolist() == list(range((examples == example).sum()))


@given(seeds, st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_balanced_epochs_visit_the_examples_of_a_class_equally_often(seed, counts):
    length, epochs = sum(counts), 10
    own = members(*counts)
    visited = [balanced_order(own, seed, epoch, length)[0] for epoch in range(epochs)]
    visits = np.bincount(np.concatenate(visited), minlength=length)
    per_class = [visits[examples] for examples in own.examples]
    totals = [part.sum() for part in per_class]
    assert max(totals) - min(totals) <= 1
    # A block that has begun is the only difference.
    share = -(-length // len(counts))
    for part in per_class:
        assert part.max() - part.min() <= -(-share // len(part))


def test_the_balanced_order_never_changes():
    # A change here would break resuming every run that was started before it.
    examples, earlier = balanced_order(members(6, 2), 0, 1, 8)
    assert examples.tolist() == [4, 5, 3, 6, 6, 7, 7, 2]
    assert earlier.tolist() == [0, 0, 0, 0, 1, 0, 1, 0]


@given(seeds, st.integers(0, 99), st.integers(1, 40), sizes, st.integers(1, 4))
def test_the_places_of_a_balanced_batch_are_those_of_its_rows(
    seed, number, batch_size, counts, repeats
):
    length, own = sum(counts), members(*counts)
    expected = [
        locate(position_of_row(number, row, batch_size, repeats), seed, length, repeats, own)
        for row in range(batch_size)
    ]
    found = batch_places(number, range(batch_size), batch_size, seed, length, repeats, own)
    np.testing.assert_array_equal(found, expected)
