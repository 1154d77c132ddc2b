import json
import signal
from collections import Counter

import pytest

from tests.endurance import kill, kill_run
from tests.endurance.kill_run import End, Kill, Moment, Pace, plan_kills, watch


def test_half_of_the_kills_come_during_a_save():
    kinds = Counter(moment.during for moment in plan_kills(25, 500, 20, 1, seed=0))
    assert kinds == {"saving": 13, "stepping": 6, "starting": 4, "clearing": 2}


def test_each_kill_waits_for_a_later_step_and_leaves_steps_for_a_last_save():
    steps = [moment.after_step for moment in plan_kills(25, 500, 20, 1, seed=3)]
    assert steps == sorted(steps)
    assert len(set(steps)) == 25
    assert max(steps) < 500 - 2 * 20


def test_the_seed_determines_the_plan():
    assert plan_kills(9, 200, 5, 2, seed=1) == plan_kills(9, 200, 5, 2, seed=1)
    assert plan_kills(9, 200, 5, 2, seed=1) != plan_kills(9, 200, 5, 2, seed=2)


def test_every_process_is_killed_sometimes():
    assert {moment.victim for moment in plan_kills(25, 500, 20, 2, seed=0)} == {0, 1}


def test_a_run_too_short_for_its_kills_is_refused():
    with pytest.raises(ValueError, match="need a run of 40 steps or more, found 30"):
        plan_kills(25, 30, 5, 1, seed=0)


class Process:
    """A stand-in for a process that has ended."""

    def __init__(self, code, errors=()):
        self.code, self._errors = code, list(errors)

    def complaint(self):
        return self._errors

    def left_behind(self, limit_s):
        return []


def wrong_end(number, doing, *ends, victim=0, lost_steps=0):
    moment = Moment("saving", after_step=1, delay=0.5, victim=victim)
    kill = Kill(moment, doing, 10, lost_steps, tuple(End(code, 1.0, said) for code, said in ends))
    processes = [Process(code) for code, _ in ends]
    return kill_run._wrong_end(kill, processes, number)


def test_a_killed_process_dies_of_its_signal():
    assert wrong_end(signal.SIGKILL, "saving step 5", (-9, "")) == []
    assert wrong_end(signal.SIGKILL, "saving step 5", (0, "")) == [
        "process 0 ended with 0 within 1.0 s, expected -9: "
    ]


def test_a_stopped_process_says_so_and_has_saved_all_its_steps():
    assert wrong_end(signal.SIGTERM, "past step 5", (75, "")) == []
    assert len(wrong_end(signal.SIGTERM, "past step 5", (143, ""))) == 1
    assert len(wrong_end(signal.SIGTERM, "past step 5", (None, ""))) == 1
    assert wrong_end(signal.SIGTERM, "past step 5", (75, ""), lost_steps=2) == [
        "2 steps were not saved before the run stopped"
    ]


def test_a_process_that_has_not_begun_may_die_of_the_request():
    assert wrong_end(signal.SIGTERM, "starting", (-15, "")) == []
    assert len(wrong_end(signal.SIGTERM, "past step 5", (-15, ""))) == 1


def test_the_others_name_the_process_that_was_lost():
    lost = "error: process 1 of 2 was lost"
    assert wrong_end(signal.SIGKILL, "past step 5", (69, lost), (-9, ""), victim=1) == []
    assert wrong_end(signal.SIGKILL, "past step 5", (69, "error"), (-9, ""), victim=1) == [
        "process 0 does not name process 1: error"
    ]


def test_a_run_that_fails_by_itself_reports_its_error(tmp_path):
    with pytest.raises(RuntimeError, match="no space left"):
        watch([Process(1, ["no space left"])], tmp_path, limit_s=1.0)


def test_patience_grows_with_the_run():
    assert Pace(start_s=5.0, save_s=0.3, whole_s=20.0).patience_s == 160.0


@pytest.mark.exhaustive
@pytest.mark.parametrize("signal_name", ["KILL", "TERM"])
def test_the_quick_mode_kills_a_run_that_loses_nothing(tmp_path, capsys, signal_name):
    arguments = ["--quick", "--kills", "2", "--signal", signal_name, "--output", str(tmp_path)]
    assert kill.main(arguments) == 0
    (path,) = tmp_path.glob("quick-kill-sig*.json")
    result = json.loads(path.read_text())
    assert len(result["kills"]) == 2
    assert result["faults"] == []
    assert result["compared"]["arrays"] > 100
    assert str(tmp_path) not in path.read_text()
    assert "nothing was lost in 2 kills" in capsys.readouterr().out
