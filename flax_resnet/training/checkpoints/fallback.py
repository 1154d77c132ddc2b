"""Fall back from damaged checkpoints to an undamaged one."""

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
    """Return the result of `restore` for the first step that is not damaged.

    Returns:
      That or None, and the damage of the steps before it. All processes return the same.
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
    """Return the error to raise if no checkpoint can be used."""
    listed = "".join(f"\n  {step}: {reason}" for step, reason in damaged.items())
    return InputError(
        f"no checkpoint in {folder} can be read:{listed}\nNothing was changed. Put back a copy of "
        "one, or move the folder away to start anew"
    )


def set_aside(workdir: Path, steps: Sequence[int]) -> None:
    """Move damaged checkpoints away, so that new ones can have their numbers."""
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
    """Move away checkpoints whose metrics cannot be read: Orbax could not open the others.

    Returns:
      Their damage, in the process that moves them.

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
