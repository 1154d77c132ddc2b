"""A profiler's trace of some steps of a run, which TensorBoard and xprof open."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from flax_resnet.errors import InputError

# TensorBoard finds traces in the folder of a run's other logs.
FOLDER = "tensorboard"


def parse_steps(text: str) -> tuple[int, int]:
    """Return the first and the last step of `FROM:TO`, which are counted from 1.

    Raises:
      InputError: the text is something else.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found is None:
        raise InputError(f"--profile is {text!r}; expected FROM:TO, two steps such as 100:105")
    return int(found[1]), int(found[2])


class Tracer:
    """Trace the steps `first` to `last` of a run, or none, without changing what they compute."""

    def __init__(self, folder: Path, steps: tuple[int, int] | None, length: int) -> None:
        """Check the steps.

        Args:
          folder: where the trace is written, under `plugins/profile`.
          steps: None traces nothing.
          length: the last step of the run.

        Raises:
          InputError: the run has no such steps.
        """
        first, last = steps or (0, -1)
        if steps is not None and not 1 <= first <= last <= length:
            raise InputError(
                f"the steps to profile are {first}:{last}; expected FROM:TO with "
                f"1 <= FROM <= TO <= {length}, the last step"
            )
        self._folder, self._steps = folder, range(first, last + 1)
        self._active = False

    def passed(self, start: int) -> str:
        """Return a warning if a run that continues after `start` has done all of these steps."""
        if not self._steps or start < self._steps[-1]:
            return ""
        return (
            f"warning: steps {self._steps[0]} to {self._steps[-1]} are done already: nothing is "
            "profiled"
        )

    def run(self, step: int, function: Callable[..., Any], state: Any, batch: Any) -> Any:
        """Return `function(state, batch)`, the step of this number, which is traced if it is due.

        Raises:
          InputError: another trace is being taken, or the trace cannot be written.
        """
        if step not in self._steps:
            return function(state, batch)
        if not self._active:
            jax.block_until_ready(state)  # earlier steps are not part of the trace
            self._start()
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            outcome = function(state, batch)
        if step == self._steps[-1]:
            jax.block_until_ready(outcome)
            self.close()
        return outcome

    def close(self) -> None:
        """Write the trace, if one is being taken."""
        if not self._active:
            return
        self._active = False
        try:
            jax.profiler.stop_trace()
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"the trace could not be written to {self._folder}: {error}. Free some space, or "
                "leave out --profile"
            ) from error

    def _start(self) -> None:
        try:
            jax.profiler.start_trace(self._folder)
        except RuntimeError as error:
            raise InputError(
                f"the steps cannot be profiled: {error}. End the other trace, or leave out "
                "--profile"
            ) from error
        self._active = True
