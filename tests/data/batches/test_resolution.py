"""Sizes of images: of a training batch by its number, and of evaluation."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.data import DataConfig, eval_batches, open_source, size_ramp, train_batches
from flax_resnet.data.batches.loading import at_batch, at_largest
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.errors import InputError

CONFIG = DataConfig(
    source="synthetic",
    train_split="train[:40]",
    image_size=8,
    batch_size=16,
    crop_padding=2,
    workers=0,
    sizes=((0.5, 12), (1.0, 10)),
)
# Batches 0 and 1 begin before half an epoch, batch 2 before its end.
SIZES = [8, 8, 12, 10, 10]


def shapes(**arguments: Any) -> list[tuple[int, ...]]:
    source = open_source(CONFIG, "train[:40]")
    return [batch["image"].shape for batch in train_batches(source, CONFIG, seed=0, **arguments)]


def test_the_number_of_a_batch_decides_its_size() -> None:
    assert shapes(num_batches=5) == [(16, size, size, 3) for size in SIZES]
    assert shapes(num_batches=2, start_batch=2) == [(16, size, size, 3) for size in SIZES[2:4]]
    rows = shapes(num_batches=5, process_index=1, process_count=2)
    assert rows == [(8, size, size, 3) for size in SIZES]


def test_a_batch_of_another_size_holds_the_same_images() -> None:
    source = open_source(CONFIG, "train[:40]")
    plain = dataclasses.replace(CONFIG, sizes=(), image_size=12)
    ours, theirs = (
        next(train_batches(source, config, seed=3, start_batch=2, num_batches=1))
        for config in (CONFIG, plain)
    )
    np.testing.assert_array_equal(ours["image"], theirs["image"])
    np.testing.assert_array_equal(ours["label"], theirs["label"])


def test_worker_processes_need_memory_for_the_largest_size() -> None:
    sizes = {"sizes": ((1.0, 4096),)}, {"eval_size": 4096}
    for change, batches in zip(sizes, (train_batches, eval_batches), strict=True):
        config = dataclasses.replace(CONFIG, batch_size=2**14, workers=64, **change)
        arguments: Any = {"seed": 0, "num_batches": 1} if batches is train_batches else {}
        with pytest.raises(InputError, match="MiB"):
            batches(open_source(config, "train[:40]"), config, **arguments)


@given(st.integers(1, 64), st.integers(1, 300), st.integers(0, 50))
def test_a_size_begins_with_the_first_batch_of_its_epoch(
    batch_size: int, examples: int, epoch: int
) -> None:
    config = DataConfig(image_size=32, batch_size=batch_size, sizes=((epoch, 64),))
    first = -(-epoch * examples // batch_size)
    assert at_batch(config, first, examples).image_size == 64
    if first > 0:
        assert at_batch(config, first - 1, examples).image_size == 32


def test_evaluation_has_its_own_size() -> None:
    config = dataclasses.replace(CONFIG, eval_size=14)
    source = open_source(config, "test[:9]")
    batches = [batch["image"] for batch in eval_batches(source, config)]
    assert {batch.shape[1:] for batch in batches} == {(14, 14, 3)}
    alone = dataclasses.replace(config, image_size=14, eval_size=None, sizes=())
    image = np.asarray(source[0]["image"])
    np.testing.assert_array_equal(eval_transform(image, config), eval_transform(image, alone))
    assert at_largest(config).image_size == 14
    assert at_largest(CONFIG).image_size == 12


def test_a_ramp_grows_linearly_in_whole_epochs_and_multiples() -> None:
    ramp = size_ramp(0, 13, 160, 192)
    assert ramp == ((0.0, 160), (7.0, 192))
    # Sixteen epochs of ffcv's recipe: round(interp(epoch, [start, end], [160, 192]) / 32) * 32.
    config = DataConfig(sizes=ramp, image_size=160, batch_size=1)
    found = [at_batch(config, epoch, 1).image_size for epoch in range(16)]
    exact = np.interp(np.arange(16), [0, 13], [160, 192])
    assert found == (np.round(exact / 32) * 32).astype(int).tolist()
    assert size_ramp(3, 3, 96, 128, 16) == ((3.0, 96),)
    assert [size for _, size in size_ramp(0, 8, 96, 160, 16)] == [96, 112, 128, 144, 160]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_size": 0}, "eval_size is 0; expected at least 1"),
        ({"sizes": (3, 4)}, r"sizes is .*; expected pairs of \(from_epoch, size\)"),
        ({"sizes": ((1.0, 8, 2),)}, "expected pairs"),
        ({"sizes": ((2.0, 8), (1.0, 9))}, "expected increasing epochs"),
        ({"sizes": ((1.0, 8.5),)}, "whole sizes"),
        ({"sizes": ((-1.0, 8),)}, "increasing epochs"),
        ({"sizes": ((1.0, 0),)}, "at least 1"),
    ],
)
def test_invalid_sizes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DataConfig(**settings)
