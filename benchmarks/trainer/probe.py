"""Time the real training loop from outside: its batches, its steps and its saves."""

import contextlib
import io
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from flax_resnet.training import loop
from flax_resnet.training.checkpoints import store
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.setup import Setup


@dataclass(frozen=True)
class Turn:
    """The times of some steps: wall seconds, CPU seconds, and mean seconds per step by phase."""

    steps: int
    seconds: float
    cpu_seconds: float
    phases: dict[str, float]


PHASES = ("waiting for the loader", "sending", "dispatching", "logging and the rest")


class TrainerProbe:
    """Run the trainer repeatedly with one jitted step, and time its steps from outside."""

    def __init__(self, config: TrainConfig) -> None:
        self._config = config
        self._step_fn: Any = None
        self._asked: list[float] = []
        self._got: list[float] = []
        self._called: list[float] = []
        self._returned: list[float] = []
        self._cpu: list[float] = []

    def run(self, steps: int, warm_up: int) -> Turn:
        """Train for `steps` steps after `warm_up`; the final checkpoint is not timed.

        The clock starts and stops at the call of a step. The trainer is equally far ahead of the
        device at both times, so the time is that of `steps` finished steps.
        """
        for stamps in (self._asked, self._got, self._called, self._returned, self._cpu):
            stamps.clear()
        with self._watched(), tempfile.TemporaryDirectory() as folder:
            loop.train(self._config, Path(folder) / "run", stop_after=warm_up + steps + 1)
        first, last = warm_up, warm_up + steps
        spans = [
            (self._asked, self._got, 0),
            (self._got, self._called, 0),
            (self._called, self._returned, 0),
            (self._returned, self._asked, 1),  # until the loop asks for the next batch
        ]
        phases = {
            name: sum(end[at + after] - begin[at] for at in range(first, last)) / steps
            for name, (begin, end, after) in zip(PHASES, spans, strict=True)
        }
        seconds = self._called[last] - self._called[first]
        return Turn(steps, seconds, self._cpu[last] - self._cpu[first], phases)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        make_step, make_batches = loop.make_train_step, Setup.training_batches
        with (
            mock.patch.object(loop, "make_train_step", self._stepper(make_step)),
            mock.patch.object(Setup, "training_batches", self._feeder(make_batches)),
            contextlib.redirect_stdout(_Terminal()),
        ):
            yield

    def _stepper(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def make_watched(*arguments: Any, **options: Any) -> Callable[..., Any]:
            # Made once: all runs and the bare loop call the same compiled program.
            self._step_fn = self._step_fn or make(*arguments, **options)
            return self._call

        return make_watched

    def _call(self, state: Any, batch: Any) -> Any:
        self._called.append(time.perf_counter())
        self._cpu.append(time.process_time())
        outcome = self._step_fn(state, batch)
        self._returned.append(time.perf_counter())
        return outcome

    def _feeder(self, make: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: _Watched(
            make(*arguments, **options), self._asked, self._got
        )

    @property
    def step_fn(self) -> Any:
        """Return the jitted step of the runs."""
        if self._step_fn is None:
            raise RuntimeError("the first run makes the step: call run() first")
        return self._step_fn


class _Watched:
    """An iterator over batches that records when each was requested and delivered."""

    def __init__(self, batches: Any, asked: list[float], got: list[float]) -> None:
        self._batches, self._asked, self._got = batches, asked, got

    def __iter__(self) -> "_Watched":
        return self

    def __next__(self) -> Any:
        self._asked.append(time.perf_counter())
        batch = next(self._batches)
        self._got.append(time.perf_counter())
        return batch

    def close(self) -> None:
        self._batches.close()


class _Terminal(io.StringIO):
    """An invisible terminal, for which the display draws its bars as usual."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


POLL_S = 0.005
LIMIT_S = 600.0


@dataclass
class Save:
    """The cost of one save.

    Attributes:
      blocked_s: until the call returns and the trainer goes on.
      complete_s: from the call until the checkpoint is complete.
      bytes: on disk.
    """

    blocked_s: float
    complete_s: float = float("nan")
    bytes: int = 0


@contextlib.contextmanager
def watched_saves(*, at_once: bool) -> Iterator[list[Save]]:
    """Collect the trainer's saves inside the block.

    Args:
      at_once: make every save wait until it is on disk, instead of saving in the background.
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
    """Wait until a checkpoint is complete, and measure it before a later one replaces it."""
    while not folder.is_dir():
        if time.perf_counter() - began > LIMIT_S:
            return
        time.sleep(POLL_S)
    save.complete_s = time.perf_counter() - began
    with contextlib.suppress(FileNotFoundError):  # replaced meanwhile
        save.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
