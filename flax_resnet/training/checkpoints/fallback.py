"""Past damaged checkpoints to one that is whole."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import jax

from flax_resnet.errors import InputError
from flax_resnet.training.checkpoints.restoring import DamagedError
from flax_resnet.training.checkpoints.store import FOLDER, step_folders, unrankable
from flax_resnet.training.cluster.agreement import all_say, from_first

DAMAGED = "damaged"
Found = TypeVar("Found")


def first_whole(
    steps: Sequence[int], restore: Callable[[int], Found]
) -> tuple[Found | None, dict[int, str]]:
    """Return what `restore` makes of the first step that is not damaged.

    Returns:
      That, or None; and what is wrong with the steps before it. All processes agree on it.
    """
    damaged: dict[int, str] = {}
    for step in steps:
        found, reason = None, ""
        try:
            found = restore(step)
        except DamagedError as damage:
            reason = str(damage)
        if all_say(found is not None):
            return found, damaged
        damaged[step] = reason or "another process could not read it"
    return None, damaged


def none_whole(folder: Path, damaged: dict[int, str]) -> InputError:
    """Return the error for checkpoints of which none can be used."""
    listed = "".join(f"\n  {step}: {reason}" for step, reason in damaged.items())
    return InputError(
        f"no checkpoint in {folder} can be read:{listed}\nNothing was changed. Put back a copy of "
        "one, or move the folder away to start anew"
    )


def set_aside(workdir: Path, steps: Sequence[int]) -> None:
    """Move damaged checkpoints out of the way of those that will have their numbers."""
    if jax.process_index() == 0:
        for step in steps:
            target = workdir / DAMAGED / str(step)
            copies = 1
            while target.exists():
                copies += 1
                target = target.with_name(f"{step}-{copies}")
            target.parent.mkdir(exist_ok=True)
            (workdir / FOLDER / str(step)).rename(target)


def set_aside_unrankable(workdir: Path) -> dict[int, str]:
    """Move the checkpoints away whose figures Orbax cannot read, for it would open none then.

    Returns:
      What is wrong with them, in the process that moves them.

    Raises:
      InputError: there are no others.
    """
    damaged, failure = dict[int, str](), ""
    if jax.process_index() == 0:
        damaged = unrankable(workdir)
        if damaged and len(damaged) == len(step_folders(workdir)):
            failure = str(none_whole(workdir / FOLDER, damaged))
        elif damaged:
            set_aside(workdir, list(damaged))
    if failure := from_first(failure):
        raise InputError(failure)
    return damaged
