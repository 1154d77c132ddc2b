from collections import Counter

import pytest

from benchmarks.kill_plan import plan_kills


def test_half_of_the_kills_come_while_a_save_is_under_way():
    kinds = Counter(moment.during for moment in plan_kills(25, 500, 20, 1, seed=0))
    assert kinds == {"saving": 13, "stepping": 6, "starting": 4, "clearing": 2}


def test_each_kill_waits_for_a_later_step_and_leaves_steps_for_a_last_save():
    steps = [moment.after_step for moment in plan_kills(25, 500, 20, 1, seed=3)]
    assert steps == sorted(steps)
    assert len(set(steps)) == 25
    assert max(steps) < 500 - 2 * 20


def test_a_seed_decides_about_everything():
    assert plan_kills(9, 200, 5, 2, seed=1) == plan_kills(9, 200, 5, 2, seed=1)
    assert plan_kills(9, 200, 5, 2, seed=1) != plan_kills(9, 200, 5, 2, seed=2)


def test_every_process_is_killed_now_and_then():
    assert {moment.victim for moment in plan_kills(25, 500, 20, 2, seed=0)} == {0, 1}


def test_a_run_too_short_for_its_kills_is_refused():
    with pytest.raises(ValueError, match="need a run of 40 steps or more, found 30"):
        plan_kills(25, 30, 5, 1, seed=0)
