import json

import pytest

from benchmarks.trainer import overhead
from benchmarks.trainer.probe import PHASES
from flax_resnet.errors import InputError


def test_a_recipe_is_loaded_with_changes():
    recipe = overhead.ROOT / "configs" / "digits.py"
    config = overhead.load_config(recipe, ["data.source=synthetic", "data.workers=0"])
    assert (config.data.source, config.data.workers) == ("synthetic", 0)


def test_a_missing_recipe_is_named():
    with pytest.raises(InputError, match=r"nowhere\.py"):
        overhead.load_config(overhead.ROOT / "nowhere.py")


@pytest.mark.exhaustive
def test_the_quick_mode_runs_the_trainer_and_the_bare_loop(tmp_path, capsys):
    changes = ["--set", "data.source=synthetic", "--set", "model.name=mnist_resnet"]
    arguments = ["--quick", "--repeats", "1", "--output", str(tmp_path), *changes]
    assert overhead.main(arguments) == 0
    (path,) = tmp_path.glob("quick-trainer-overhead-digits_*.json")
    result = json.loads(path.read_text())
    assert len(result["ratio"]["values"]) == 1
    assert len(result["trainer_steps_per_second"]["values"]) == 1
    assert len(result["bare_steps_per_second"]["values"]) == 2
    assert set(result["trainer_ms_per_step"]) == set(PHASES)
    assert result["settings"]["data"]["source"] == "synthetic"
    assert "ratio" in capsys.readouterr().out
