"""Requests share a batch, and each gets its own row."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from flax_resnet.serving.batching import Batcher

Apply = Callable[[np.ndarray], np.ndarray]


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 1), value, np.uint8)


async def run_batcher(apply: Apply, size: int, values: list[int]) -> list[object]:
    batcher = Batcher(apply, size)
    task = asyncio.create_task(batcher.run())
    asked = [batcher(image(value)) for value in values]
    found = await asyncio.gather(*asked, return_exceptions=True)
    task.cancel()
    return list(found)


def test_simultaneous_images_share_a_batch() -> None:
    sizes: list[int] = []

    def apply(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return pixels[:, 0, 0, :].astype(np.float32)

    found = asyncio.run(run_batcher(apply, 4, list(range(10))))
    assert [float(row[0]) for row in found] == list(range(10))  # type: ignore[index]
    assert max(sizes) == 4
    assert sum(sizes) == 10


def test_an_error_reaches_its_batch_and_later_batches_succeed() -> None:
    def apply(pixels: np.ndarray) -> np.ndarray:
        if pixels.max() == 7:
            raise MemoryError("full")
        return pixels[:, 0, 0, :]

    found = asyncio.run(run_batcher(apply, 1, [1, 7, 2]))
    assert isinstance(found[1], MemoryError)
    assert [int(found[at][0]) for at in (0, 2)] == [1, 2]  # type: ignore[index]


def test_a_canceled_request_does_not_affect_others() -> None:
    async def scene() -> np.ndarray:
        batcher = Batcher(lambda pixels: pixels[:, 0, 0, :], 4)
        task = asyncio.create_task(batcher.run())
        gone = asyncio.create_task(batcher(image(1)))
        stays = asyncio.create_task(batcher(image(2)))
        await asyncio.sleep(0)
        gone.cancel()
        row = await asyncio.wait_for(stays, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return row

    assert asyncio.run(scene()) == [2]
