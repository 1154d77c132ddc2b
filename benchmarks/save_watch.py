"""What a save of the real trainer takes: the call, the time until all is on disk, the bytes."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from flax_resnet.training.checkpoints import store

POLL_S = 0.005
LIMIT_S = 600.0


@dataclass
class Save:
    """One save.

    Attributes:
      blocked_s: until the call returns and the trainer goes on.
      complete_s: from the call until the checkpoint is whole.
      bytes: on disk.
    """

    blocked_s: float
    complete_s: float = float("nan")
    bytes: int = 0


@contextlib.contextmanager
def watched_saves(*, at_once: bool) -> Iterator[list[Save]]:
    """Collect the saves of the trainer while this lasts.

    Args:
      at_once: let every save wait until all is on disk, which is saving without a background.
    """
    save, saves, followers = store.save, list[Save](), list[threading.Thread]()

    def watched(manager: Any, state: Any, *rest: Any, **options: Any) -> None:
        folder = Path(manager.directory) / str(int(state.step))
        began = time.perf_counter()
        save(manager, state, *rest, **options)
        if at_once:
            manager.wait_until_finished()
        saves.append(Save(time.perf_counter() - began))
        follow = threading.Thread(target=_follow, args=(saves[-1], folder, began))
        follow.start()
        followers.append(follow)

    with mock.patch.object(store, "save", watched):
        yield saves
    for follower in followers:
        follower.join()


def _follow(save: Save, folder: Path, began: float) -> None:
    """Wait for a checkpoint to be whole and measure it before a later one replaces it."""
    while not folder.is_dir():
        if time.perf_counter() - began > LIMIT_S:
            return
        time.sleep(POLL_S)
    save.complete_s = time.perf_counter() - began
    with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
        save.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
