"""The table of experiments, their settings, and the files that a run writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.errors import InputError
from flax_resnet.lab import EXPERIMENTS, load_experiment, perform
from flax_resnet.lab.degradation import Settings
from flax_resnet.lab.settings import Training, change_settings, to_words


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_a_small_and_a_paper_size(name: str) -> None:
    experiment = load_experiment(name)
    assert set(experiment.sizes) >= {"small", "paper"}
    assert experiment.run and experiment.finding and experiment.draw


def test_settings_are_changed_by_words() -> None:
    changed = change_settings(
        Settings(), ["depths=8,14", "epochs=3", "learning_rate=0.5", "data=mnist", "data_dir=none"]
    )
    assert changed == Settings(depths=(8, 14), epochs=3, learning_rate=0.5, data="mnist")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_settings_are_written_as_they_are_read(name: str) -> None:
    sizes = load_experiment(name).sizes
    for settings in sizes.values():
        assert change_settings(sizes["small"], to_words(settings)) == settings


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=3", "Did you mean 'epochs'"),
        ("epochs", "expected name=value"),
        ("epochs=many", "epochs is 'many'; expected a whole number"),
        ("depths=8,x", "depths is 'x'; expected a whole number"),
        ("seeds=0", "seeds is 0; expected at least 1"),
    ],
)
def test_invalid_settings_are_errors(word: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        change_settings(Settings(), [word])


def test_an_unknown_experiment_is_an_error_with_similar_names() -> None:
    with pytest.raises(InputError, match="Did you mean 'degradation'"):
        load_experiment("degredation")


def test_a_run_writes_numbers_a_plot_and_a_sentence(tmp_path: Path) -> None:
    report = perform("walk", tmp_path)
    facts = json.loads(report.numbers.read_text())
    assert facts["experiment"] == "walk"
    assert facts["finding"] == report.finding
    assert facts["versions"]["jax"]
    assert report.plot.read_bytes().startswith(b"\x89PNG")


def test_known_data_has_settings_and_other_data_is_a_source() -> None:
    known = Training(data="fashion_mnist", batch_size=32).data_config()
    assert (known.source, known.image_size, known.batch_size) == ("tfds:fashion_mnist", 28, 32)
    other = Training(data="folder:pictures", image_size=64).data_config()
    assert (other.source, other.image_size) == ("folder:pictures", 64)


def test_arrays_are_written_as_lists_and_nan_as_null() -> None:
    from flax_resnet.lab.report import _plain

    assert _plain(np.float32([[1.23456789, np.nan]])) == [[1.23457, None]]
