"""Requests that come at the same time are shown to the network together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

Answer = TypeVar("Answer")
Apply = Callable[[np.ndarray], np.ndarray]
# So long the first of a batch waits for others: far less than a network takes.
_PATIENCE = 0.002


class Batcher:
    """Answer single pictures with rows of what `apply` gives for many at a time.

    One thread runs the network; while it is at work the next batch gathers.
    """

    def __init__(self, apply: Apply, size: int) -> None:
        """Take at most `size` pictures at a time."""
        self._apply, self._size = apply, size
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = (
            asyncio.Queue()
        )
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the row of one prepared picture."""
        answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        await self._waiting.put((pixels, answer))
        return await answer

    async def in_turn(self, function: Callable[..., Answer], *args: Any) -> Answer:
        """Run something on the network's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(_PATIENCE)
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            pixels = np.stack([picture for picture, _ in batch])
            try:
                rows = await self.in_turn(self._apply, pixels)
            except Exception as error:
                for _, answer in batch:
                    if not answer.cancelled():
                        answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, rows, strict=True):
                if not answer.cancelled():  # as it is where the client has gone
                    answer.set_result(row)
