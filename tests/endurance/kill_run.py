"""Plan the moments at which to kill a run, and kill and restart it until it finishes.

The moments are random, but spread over everything that a run does. A kill waits until the run has
passed a step, and later kills wait for later steps, so the run always makes progress.
"""

import random
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.training_run import RunProcess, newest_checkpoint, partial_checkpoints, reached

# What the run is doing when killed, and the share of the kills: saving is the riskiest.
SHARES = {"starting": 0.15, "stepping": 0.25, "saving": 0.5, "clearing": 0.1}


@dataclass(frozen=True)
class Moment:
    """A planned kill.

    Attributes:
      during: `starting`, `stepping`, `saving`, or `clearing` an old checkpoint.
      after_step: the run passes this step first; ignored while it starts.
      delay: when the kill happens, as a share of the activity's length.
      victim: the process that is killed.
    """

    during: str
    after_step: int
    delay: float
    victim: int


def plan_kills(kills: int, steps: int, save_every: int, processes: int, seed: int) -> list[Moment]:
    """Return the moments in order, each in its own part of the run's steps.

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
    """Return an activity for each kill, according to the shares, in random order."""
    rest = [kind for kind in SHARES if kind != "saving"]
    kinds = [kind for kind in rest for _ in range(round(SHARES[kind] * kills))]
    kinds += ["saving"] * (kills - len(kinds))
    rng.shuffle(kinds)
    return kinds


# Exit statuses of a process.
DONE, LOST, STOPPED = 0, 69, 75
POLL_S = 0.002
# The longest delay of a kill after a step, or after a save.
STEPS_S, CLEARING_S = 0.15, 0.03
# Seconds in which the child processes of a dead run must exit.
ORPHANS_S = 10.0
# Lines shown of a failed process's output.
LINES = 30
# The host and process id, which results should not contain.
_MACHINE = re.compile(r" \(host [^)]*\)")
_GOING_ON = re.compile(r"from step (\d+)")
Start = Callable[[], list[RunProcess]]


@dataclass(frozen=True)
class Pace:
    """The seconds that a run takes until it trains, for one save, and in total."""

    start_s: float
    save_s: float
    whole_s: float

    @property
    def patience_s(self) -> float:
        """Return the time after which a run is considered to hang."""
        return 60 + 5 * self.whole_s


@dataclass(frozen=True)
class End:
    """The end of a process: exit status, seconds after the kill, and last message."""

    code: int | None
    seconds: float
    message: str


@dataclass(frozen=True)
class Kill:
    """A kill: the plan, what the run was doing, and what remained of it."""

    moment: Moment
    doing: str
    goes_on_from: int
    lost_steps: int
    """Steps that had left a trace and must be repeated."""
    ends: tuple[End, ...]


def kill_again_and_again(
    start: Start,
    workdir: Path,
    moments: Sequence[Moment],
    number: signal.Signals,
    pace: Pace,
    within_s: float,
) -> tuple[list[Kill], list[str]]:
    """Kill a run at each moment, then let it finish; return the kills and the faults.

    Args:
      start: starts all processes of the run.
      within_s: seconds in which a process must exit by itself.
    """
    kills: list[Kill] = []
    faults: list[str] = []
    for moment in moments:
        before, processes = newest_checkpoint(workdir), start()
        try:
            if not _await(moment, processes, workdir, pace):
                return kills, [*faults, f"after kill {len(kills)}: {_early_end(processes)}"]
            kills.append(_kill(moment, processes, workdir, number, within_s))
            wrong = [*_wrong_start(processes, before), *_wrong_end(kills[-1], processes, number)]
            faults += [f"kill {len(kills)}: {fault}" for fault in wrong]
            print(f"kill {len(kills)}: {kills[-1].doing}", flush=True)
        finally:
            end_all(processes)
    before, processes = newest_checkpoint(workdir), start()
    try:
        codes = [process.wait(pace.patience_s) for process in processes]
        wrong = [] if codes == [DONE] * len(codes) else [_early_end(processes)]
        return kills, [*faults, *_wrong_start(processes, before), *wrong]
    finally:
        end_all(processes)


def watch(processes: Sequence[RunProcess], workdir: Path, limit_s: float) -> Pace:
    """Wait for a run to finish and return how long its parts took.

    Raises:
      RuntimeError: it fails, or takes longer than `limit_s`.
    """
    began = time.monotonic()
    saves, saving_since, started = list[float](), None, None
    while any(process.code is None for process in processes):
        now = time.monotonic()
        if now - began > limit_s or any(process.code for process in processes):
            break
        saving = bool(partial_checkpoints(workdir))
        if saving and saving_since is None:
            saving_since = now
        if not saving and saving_since is not None:
            saves.append(now - saving_since)
            saving_since = None
        if started is None and reached(workdir):
            started = now - began
        time.sleep(POLL_S)
    whole = time.monotonic() - began
    if any(process.code != DONE for process in processes) or started is None or not saves:
        raise RuntimeError(f"the uninterrupted run: {_early_end(processes)}")
    return Pace(started, sorted(saves)[len(saves) // 2], whole)


def end_all(processes: Sequence[RunProcess]) -> None:
    """Kill all processes that still run."""
    for process in processes:
        process.end()


def _await(moment: Moment, processes: Sequence[RunProcess], workdir: Path, pace: Pace) -> bool:
    """Wait for the moment; return False if the run ended or hung before."""
    began, before = time.monotonic(), newest_checkpoint(workdir)
    lasts = {
        "starting": pace.start_s,
        "stepping": STEPS_S,
        "saving": pace.save_s,
        "clearing": CLEARING_S,
    }
    while time.monotonic() - began < pace.patience_s:
        if any(process.code is not None for process in processes):
            return False
        if moment.during == "starting" or (
            # Before its first output the folder still shows the state of the last run.
            processes[0].said() and _is_now(moment, workdir, before)
        ):
            time.sleep(moment.delay * lasts[moment.during])
            return all(process.code is None for process in processes)
        time.sleep(POLL_S)
    return False


def _is_now(moment: Moment, workdir: Path, before: int) -> bool:
    """Return whether a run that continued from `before` is doing what the moment asks for."""
    saving = max(partial_checkpoints(workdir), default=0)
    if moment.during == "saving":
        return saving >= max(moment.after_step, 1)
    if moment.during == "clearing":
        return newest_checkpoint(workdir) > max(moment.after_step, before)
    return not saving and reached(workdir) > max(moment.after_step, before)


def _kill(
    moment: Moment,
    processes: Sequence[RunProcess],
    workdir: Path,
    number: signal.Signals,
    within_s: float,
) -> Kill:
    began = time.monotonic()
    doing = _doing(moment, processes, workdir)
    processes[moment.victim].send(number)
    ends: dict[int, End] = {}
    while len(ends) < len(processes) and time.monotonic() - began < within_s:
        for index, process in enumerate(processes):
            if index not in ends and process.code is not None:
                ends[index] = _end(process, moment.victim, time.monotonic() - began)
        time.sleep(POLL_S)
    for index, process in enumerate(processes):
        ends.setdefault(index, _end(process, moment.victim, within_s))
    goes_on_from = newest_checkpoint(workdir)
    lost = max(reached(workdir) - goes_on_from, 0)
    return Kill(moment, doing, goes_on_from, lost, tuple(ends[index] for index in sorted(ends)))


def _doing(moment: Moment, processes: Sequence[RunProcess], workdir: Path) -> str:
    if not processes[0].said():
        return "starting"
    saving = partial_checkpoints(workdir)
    if saving:
        return f"saving step {saving[-1]}"
    if moment.during == "clearing":
        return f"step {reached(workdir)}, just saved"
    return f"past step {reached(workdir)}"


def _end(process: RunProcess, victim: int, seconds: float) -> End:
    lines = process.complaint() if process.code not in (-signal.SIGKILL, STOPPED) else []
    naming = [line for line in lines if f"process {victim}" in line]
    message = " ".join((naming or lines)[-1:])
    return End(process.code, round(seconds, 2), _MACHINE.sub("", message))


def _wrong_start(processes: Sequence[RunProcess], before: int) -> list[str]:
    """Return a fault if the run did not continue from the newest saved step."""
    said = _GOING_ON.search(processes[0].said())
    if said and int(said[1]) != before:
        return [f"the run continued from step {said[1]}, but step {before} was saved"]
    return []


def _wrong_end(kill: Kill, processes: Sequence[RunProcess], number: signal.Signals) -> list[str]:
    faults, victim = [], kill.moment.victim
    for index, end in enumerate(kill.ends):
        expected = {LOST}
        if number == signal.SIGTERM:
            # Until its run is open, a process has nothing to save and may die of the signal.
            expected = {STOPPED, -number, LOST} if kill.doing == "starting" else {STOPPED}
        elif index == victim:
            expected = {-number}
        if end.code not in expected:
            wanted = " or ".join(map(str, sorted(expected)))
            ended = f"ended with {end.code}" if end.code is not None else "did not end"
            faults.append(
                f"process {index} {ended} within {end.seconds:.1f} s, expected {wanted}: "
                f"{end.message}"
            )
        # The first process cannot name a process that never connected.
        strange = kill.doing == "starting" and "some process was lost" in end.message
        if end.code == LOST and f"process {victim}" not in end.message and not strange:
            faults.append(f"process {index} does not name process {victim}: {end.message}")
        left = processes[index].left_behind(ORPHANS_S)
        if left:
            faults.append(f"process {index} left {len(left)} others behind")
    if number == signal.SIGTERM and kill.lost_steps:
        faults.append(f"{kill.lost_steps} steps were not saved before the run stopped")
    return faults


def _early_end(processes: Sequence[RunProcess]) -> str:
    """Return how a run ended unexpectedly, with the output of its first failing process."""
    codes = [process.code for process in processes]
    if any(code is None for code in codes):
        return f"it hangs, exit statuses {codes}"
    failed = next((process for process in processes if process.code), None)
    if failed is None:
        return "it finished before the next kill: more steps are needed"
    return f"it ended with {codes}: " + "\n".join(failed.complaint()[-LINES:])
