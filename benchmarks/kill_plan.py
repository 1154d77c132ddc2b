"""When to kill a run: at random, but spread over all that it does, and never in vain.

A kill waits until the run has got past a step, and later kills wait for later steps. So the run
gets on between them, however often it is killed.
"""

import random
from dataclasses import dataclass

# What the run shall be doing, and how many of the kills: saving is where it is most in danger.
SHARES = {"starting": 0.15, "stepping": 0.25, "saving": 0.5, "clearing": 0.1}


@dataclass(frozen=True)
class Moment:
    """One kill to come.

    Attributes:
      during: `starting`, `stepping`, `saving`, or `clearing` away what the newest save replaces.
      after_step: the run gets that far first; while it starts, it gets nowhere.
      delay: how far into that it happens, as a share of its length.
      victim: the process that is killed.
    """

    during: str
    after_step: int
    delay: float
    victim: int


def plan_kills(kills: int, steps: int, save_every: int, processes: int, seed: int) -> list[Moment]:
    """Return so many moments in order, each with its part of the run's steps.

    Raises:
      ValueError: there are fewer steps than the kills and the last saves need.
    """
    usable = steps - 3 * save_every
    if usable < kills:
        raise ValueError(
            f"{kills} kills need a run of {kills + 3 * save_every} steps or more, found {steps}"
        )
    rng = random.Random(seed)
    moments = []
    for number, during in enumerate(_kinds(kills, rng)):
        after = int((number + rng.random()) * usable / kills)
        moments.append(Moment(during, after, rng.random(), rng.randrange(processes)))
    return moments


def _kinds(kills: int, rng: random.Random) -> list[str]:
    """Return a kind for each kill, by their shares, in random order."""
    rest = [kind for kind in SHARES if kind != "saving"]
    kinds = [kind for kind in rest for _ in range(round(SHARES[kind] * kills))]
    kinds += ["saving"] * (kills - len(kinds))
    rng.shuffle(kinds)
    return kinds
