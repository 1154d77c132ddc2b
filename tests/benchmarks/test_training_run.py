import json

import pytest

from benchmarks import training_run as run_folder


@pytest.fixture
def run(tmp_path):
    """A run that was killed while it saved step 15 and wrote the row of step 14."""
    for name in ("5", "10", "15.orbax-checkpoint-tmp"):
        (tmp_path / run_folder.CHECKPOINTS / name).mkdir(parents=True)
    row = json.dumps({"kind": "train", "step": 7})
    (tmp_path / run_folder.METRICS).write_text(f'{row}\n{{"kind": "train", "st')
    return tmp_path


def test_a_run_continues_from_its_newest_complete_checkpoint(run):
    assert run_folder.whole_checkpoints(run) == [5, 10]
    assert run_folder.newest_checkpoint(run) == 10


def test_a_save_in_progress_is_seen(run):
    assert run_folder.partial_checkpoints(run) == [15]


def test_the_last_trace_of_a_run_is_a_row_or_a_checkpoint(run):
    assert run_folder.reached(run) == 15
    (run / run_folder.CHECKPOINTS / "15.orbax-checkpoint-tmp").rmdir()
    assert run_folder.reached(run) == 10
    row = json.dumps({"kind": "train", "step": 21})
    (run / run_folder.METRICS).write_text(f"{row}\n")
    assert run_folder.reached(run) == 21


def test_an_incomplete_row_is_ignored(run):
    with pytest.raises(ValueError, match="Unterminated"):
        run_folder.read_rows(run)


def test_a_folder_without_a_run_shows_nothing(tmp_path):
    assert run_folder.newest_checkpoint(tmp_path) == 0
    assert run_folder.reached(tmp_path) == 0
    assert run_folder.read_rows(tmp_path) == []
