import json
import time
from types import SimpleNamespace

import pytest

from benchmarks.trainer import checkpoint
from benchmarks.trainer.probe import Save, watched_saves
from flax_resnet.training.checkpoints import store


def test_the_cost_of_a_save_is_reported_in_steps():
    saves = [Save(0.25, 0.5, 2**20), Save(0.35, 0.7, 2**20)]
    # 20 steps of 0.1 s, and 20 with two saves, which take 1 s longer.
    cost = checkpoint._cost([(3.0, saves)], [2.0], steps=20, saves=2)
    assert cost["steps_lost_per_save"] == [pytest.approx(5.0)]
    assert cost["ratio"]["median"] == pytest.approx(2 / 3)
    assert cost["blocked_s"]["median"] == pytest.approx(0.3)
    assert cost["bytes"] == 2**20


@pytest.mark.parametrize("at_once", [False, True])
def test_a_save_is_watched_until_its_folder_exists(tmp_path, monkeypatch, at_once):
    def appear():
        (tmp_path / "partial").mkdir()
        (tmp_path / "partial" / "array").write_bytes(b"12345678")
        (tmp_path / "partial").rename(tmp_path / "5")

    manager = SimpleNamespace(directory=tmp_path, wait_until_finished=appear)
    monkeypatch.setattr(store, "save", lambda *rest: time.sleep(0.01))
    with watched_saves(at_once=at_once) as saves:
        store.save(manager, SimpleNamespace(step=5))
        if not at_once:
            appear()
    (save,) = saves
    assert 0.01 <= save.blocked_s
    assert 0.01 <= save.complete_s
    assert save.bytes == 8


@pytest.mark.exhaustive
def test_the_quick_mode_saves_in_the_background_and_at_once(tmp_path, capsys):
    assert checkpoint.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-checkpoint_*.json")
    (case,) = json.loads(path.read_text())["cases"]
    for mode in checkpoint.MODES:
        assert len(case[mode]["saves"]) == 1
        assert case[mode]["bytes"] > 2**20
    assert "steps lost per save" in capsys.readouterr().out
