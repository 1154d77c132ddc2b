"""`train --find_lr`: its files, its line, and the flags that do nothing with it."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from flax_resnet import InputError
from flax_resnet.commands import train
from flax_resnet.training.learning_rates import RangeTest

RATES = 10.0 ** np.arange(-6, 2, 0.1)


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        (np.abs(np.log10(RATES)) + 1, "--config.schedule.learning_rate=0.2  ("),
        (RATES, "no suggestion: the loss rises; see "),
        (1 / RATES, "no suggestion: the loss still falls at the highest rate; see "),
        (np.full(len(RATES), np.nan), "no suggestion: the loss is not finite; see "),
    ],
)
def test_the_plot_and_the_numbers_are_written_and_the_setting_is_printed(
    losses: np.ndarray,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(train, "find_learning_rate", lambda _: RangeTest(RATES, losses, 0.5))
    train._find_rate({}, tmp_path / "new")
    plot = tmp_path / "new" / "learning_rates.png"
    assert capsys.readouterr().out.startswith(told)
    assert plot.read_bytes().startswith(b"\x89PNG")
    facts = json.loads(plot.with_suffix(".json").read_text())
    assert facts["plot"] == str(plot)
    assert len(facts["rates"]) == len(facts["losses"]) == len(RATES)


@pytest.mark.parametrize("flag", ["--epochs=3", "--stop_after=5", "--profile=1:2"])
def test_flags_of_training_are_refused(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = flags.FlagValues()
    for name in ("epochs", "stop_after", "allow_config_change", "profile"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    values(["train.py", flag])
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(InputError, match=f"{flag.split('=')[0]} does nothing with --find_lr"):
        train._check_alone()
