"""Requests share a batch, and each gets its own answer."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from flax_resnet.serving.batching import Batcher

Apply = Callable[[np.ndarray], np.ndarray]


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 1), value, np.uint8)


async def answers(apply: Apply, size: int, values: list[int]) -> list[object]:
    batcher = Batcher(apply, size)
    task = asyncio.create_task(batcher.run())
    asked = [batcher(picture(value)) for value in values]
    found = await asyncio.gather(*asked, return_exceptions=True)
    task.cancel()
    return list(found)


def test_pictures_that_come_together_are_shown_together() -> None:
    sizes: list[int] = []

    def apply(pixels: np.ndarray) -> np.ndarray:
        sizes.append(len(pixels))
        return pixels[:, 0, 0, :].astype(np.float32)

    found = asyncio.run(answers(apply, 4, list(range(10))))
    assert [float(row[0]) for row in found] == list(range(10))  # type: ignore[index]
    assert max(sizes) == 4
    assert sum(sizes) == 10


def test_a_fault_of_the_network_reaches_those_who_asked_and_the_next_are_answered() -> None:
    def apply(pixels: np.ndarray) -> np.ndarray:
        if pixels.max() == 7:
            raise MemoryError("full")
        return pixels[:, 0, 0, :]

    found = asyncio.run(answers(apply, 1, [1, 7, 2]))
    assert isinstance(found[1], MemoryError)
    assert [int(found[at][0]) for at in (0, 2)] == [1, 2]  # type: ignore[index]


def test_who_has_gone_takes_nobody_along() -> None:
    async def scene() -> np.ndarray:
        batcher = Batcher(lambda pixels: pixels[:, 0, 0, :], 4)
        task = asyncio.create_task(batcher.run())
        gone = asyncio.create_task(batcher(picture(1)))
        stays = asyncio.create_task(batcher(picture(2)))
        await asyncio.sleep(0)
        gone.cancel()
        row = await asyncio.wait_for(stays, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        return row

    assert asyncio.run(scene()) == [2]
