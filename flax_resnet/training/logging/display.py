"""The progress of a run: bars on a terminal, plain lines elsewhere."""

import datetime
import time

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

# Seconds without a line after which one shows, where there is no terminal, that the run goes on.
_SECONDS_PER_SIGN = 60.0


class Display:
    """Show the run's progress on standard output; silent where `active` is False."""

    def __init__(self, steps: int, start: int, active: bool = True) -> None:
        self._console = Console(quiet=not active, highlight=False, soft_wrap=True)
        self._steps = steps
        self._said = time.monotonic()
        # The first step that was done, and when.
        self._since: tuple[int, float] | None = None
        # The seconds of each evaluation since then.
        self._evaluations: list[float] = []
        self._evaluating_since = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
            refresh_per_second=4,  # the default of 10 costs small networks one step in fifty
        )
        self._task = self._progress.add_task("training", total=steps, completed=start, note="")
        self._evaluation: TaskID | None = None
        self._progress.start()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._said = time.monotonic()
        self._console.print(text, markup=False)

    def advance(self, step: int) -> None:
        """Move the bar of the training steps."""
        if self._since is None:
            self._since = step, time.monotonic()
        if not self._console.is_terminal and time.monotonic() - self._said > _SECONDS_PER_SIGN:
            self.say(f"step {step}/{self._steps}  {self._left(step)} left")
        self._progress.update(self._task, completed=step)

    def log(self, step: int, epoch: float, loss: float, accuracy: float, speed: float) -> None:
        """Show the newest numbers: beside the bar, or as a line with the time left."""
        note = f"epoch {epoch:.2f}  loss {loss:.4f}  accuracy {accuracy:.2%}  {speed:,.1f} images/s"
        self._progress.update(self._task, note=note)
        if not self._console.is_terminal:
            self.say(f"step {step}/{self._steps}  {note}  {self._left(step)} left")

    def evaluating(self, split: str, batches: int) -> None:
        """Show a second bar for an evaluation."""
        self._evaluating_since = time.monotonic()
        self._evaluation = self._progress.add_task(f"evaluating {split}", total=batches, note="")

    def evaluated_batch(self) -> None:
        """Move the evaluation's bar."""
        if self._evaluation is not None:
            self._progress.advance(self._evaluation)

    def evaluated(self, text: str) -> None:
        """Remove the evaluation's bar and print the result."""
        if self._evaluation is not None:
            self._progress.remove_task(self._evaluation)
            self._evaluation = None
            if self._since is not None:
                self._evaluations.append(time.monotonic() - self._evaluating_since)
        self.say(text)

    def close(self) -> None:
        """Remove the bars."""
        self._progress.stop()

    def _left(self, step: int) -> str:
        """Return the time that the remaining steps and evaluations take, or ? if it is not known.

        The first step and the first evaluation compile, which says nothing about the others.
        """
        if self._since is None or step == self._since[0]:
            return "?"
        first, began = self._since
        done, remaining = step - first, self._steps - step
        training = time.monotonic() - began - sum(self._evaluations)
        evaluating = min(self._evaluations, default=0.0) * len(self._evaluations)
        seconds = (training + evaluating) / done * remaining
        return str(datetime.timedelta(seconds=round(seconds)))
