"""Slices follow TFDS's notation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.data.sources.source import resolve_split, share_images, split_size
from flax_resnet.errors import InputError

SIZES = {"train": 200, "test": 50}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("train", [("train", range(200))]),
        ("train[:90%]", [("train", range(180))]),
        ("train[90%:]", [("train", range(180, 200))]),
        ("train[10:-10]", [("train", range(10, 190))]),
        ("train[150:]+test[:20%]", [("train", range(150, 200)), ("test", range(10))]),
        ("all", [("train", range(200)), ("test", range(50))]),
    ],
)
def test_a_spec_selects_positions(spec, expected):
    assert resolve_split("tfds:x", spec, SIZES) == expected


@given(st.integers(1, 5000), st.integers(0, 100))
def test_two_slices_at_the_same_percentage_share_nothing_and_lose_nothing(size, percent):
    parts = [
        resolve_split("tfds:x", f"train[{bounds}]", {"train": size})
        for bounds in (f":{percent}%", f"{percent}%:")
    ]
    assert sum(map(split_size, parts)) == size
    assert parts[0][0][1].stop == parts[1][0][1].start


@pytest.mark.parametrize("spec", ["trian", "valid[:10%]", "train+valid"])
def test_an_unknown_split_is_an_error(spec):
    with pytest.raises(InputError, match=r"tfds:x has no split .*; expected one of test, train"):
        resolve_split("tfds:x", spec, SIZES)


@pytest.mark.parametrize("spec", ["train[", "train[1:2:3]", "train[:300]", "train[a:b]"])
def test_an_invalid_slice_is_an_error(spec):
    with pytest.raises(InputError, match="tfds:x cannot be sliced by"):
        resolve_split("tfds:x", spec, SIZES)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("train", "test", False),
        ("test", "test", True),
        ("test[:50]", "test", True),
        ("test[:50%]", "test[50%:]", False),
        ("test[:50%]", "test[40%:]", True),
        ("train[:90%]", "train[100:]", True),
        ("train+test[:5]", "test[-5%:]", False),
        ("train+test[:5]", "all", True),
        ("all", "all", True),
    ],
)
def test_splits_that_share_images_are_known_without_the_data(one, other, shared):
    assert share_images(one, other) == share_images(other, one) == shared
