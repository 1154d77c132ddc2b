"""Apply the network to images of simultaneous requests in one batch."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

Result = TypeVar("Result")
Apply = Callable[[np.ndarray], np.ndarray]
# Seconds that the first image of a batch waits for others: far less than the network takes.
_PATIENCE = 0.002


class Batcher:
    """Collect single images into batches for `apply`, and return each image's row.

    One thread runs the network; meanwhile the next batch is collected.
    """

    def __init__(self, apply: Apply, size: int) -> None:
        """Apply the network to at most `size` images at a time."""
        self._apply, self._size = apply, size
        self._waiting: asyncio.Queue[tuple[np.ndarray, asyncio.Future[np.ndarray]]] = (
            asyncio.Queue()
        )
        self._thread = ThreadPoolExecutor(1)

    async def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the row of one prepared image."""
        result: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        await self._waiting.put((pixels, result))
        return await result

    async def in_turn(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call `function` on the network's thread, after the batches before it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def run(self) -> None:
        """Serve images until cancelled."""
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(_PATIENCE)
            while len(batch) < self._size and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            pixels = np.stack([image for image, _ in batch])
            try:
                rows = await self.in_turn(self._apply, pixels)
            except Exception as error:
                for _, result in batch:
                    if not result.cancelled():
                        result.set_exception(error)
                continue
            for (_, result), row in zip(batch, rows, strict=True):
                if not result.cancelled():  # as it is after the client has disconnected
                    result.set_result(row)
