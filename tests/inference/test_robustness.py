"""Accuracy on the variants of ImageNet, and mCE, by hand on made-up sets."""

import csv
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import restore, save_pretrained
from flax_resnet.__main__ import main
from flax_resnet.data import DataConfig
from flax_resnet.data.sources.open import OPENERS
from flax_resnet.errors import InputError
from flax_resnet.inference.robustness import (
    ALEXNET,
    SETS,
    ImageSet,
    corruption_errors,
    corruptions,
    parse_set,
    robustness,
)
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.networks import Origin, TrainedNetwork
from flax_resnet.weights import Description, Preprocessing
from tests.training.test_evaluation import Made, Ranked


def test_alexnet_itself_has_a_corruption_error_of_one() -> None:
    found = corruption_errors({(name, s): ALEXNET[name] for name, s in corruptions()})
    assert found == {name: pytest.approx(1) for name in ALEXNET}
    assert len(found) == 15


def test_a_corruption_error_is_a_ratio_of_sums_over_severities() -> None:
    errors = {(name, severity): severity / 10 for name, severity in corruptions()}
    found = corruption_errors(errors)
    assert found["fog"] == pytest.approx((0.1 + 0.2 + 0.3 + 0.4 + 0.5) / (5 * 0.819324))


@pytest.fixture
def made_sets(monkeypatch: pytest.MonkeyPatch) -> list[DataConfig]:
    """Give every set a few images, and return the data settings that are opened."""
    opened: list[DataConfig] = []

    def open_made(config: DataConfig, rest: str, split: str) -> Made:
        assert split == ("validation" if "2012" in rest else "test")
        opened.append(config)
        if "corrupted" in rest:  # at severity n, n of five images are wrong
            severity = int(rest[-1])
            return Made(tuple(11 if at < severity else 6 for at in range(5)))
        return {
            "imagenet2012": Made((6, 6, 6, 11)),
            "imagenet2012_real": Made(((6, 7), (1,), (6,), ())),
            "imagenet_a": Made((6, 11, 11, 11)),
        }.get(rest, Made((6, 6, 11, 11)))

    monkeypatch.setitem(OPENERS, "tfds", open_made)
    return opened


def network(**description: Any) -> TrainedNetwork:
    """Return a network that says 6 for every image."""
    model = Ranked(first=(6,) * 5, second=(0,) * 5)
    return TrainedNetwork(Origin("made", Description(**description)), "made", model, {}, ())


DATA = DataConfig(channels=1, mean=(0.0,), std=(1.0,), image_size=2, workers=0)


def test_accuracies_and_mce_by_hand(
    made_sets: list[DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    alexnet = {name: ALEXNET[name] for name in ("fog", "snow")}  # 10 of the 75 sets
    monkeypatch.setattr("flax_resnet.inference.robustness.ALEXNET", alexnet)
    found = robustness(network(), SETS, DATA, data_mesh(jax.devices()[:1]))
    assert {name: found[name] for name in SETS if name != "c"} == {
        "imagenet": pytest.approx(3 / 4),
        "real": pytest.approx(2 / 3),
        "v2": pytest.approx(1 / 2),
        "a": pytest.approx(1 / 4),
        "r": pytest.approx(1 / 2),
        "sketch": pytest.approx(1 / 2),
    }
    # Errors of 0.2, 0.4, 0.6, 0.8 and 1 at the severities, so 0.6 on average.
    assert found["ce/snow"] == pytest.approx(0.6 / ALEXNET["snow"])
    assert found["mce"] == pytest.approx(np.mean([0.6 / error for error in alexnet.values()]))
    assert len(made_sets) == 6 + 10
    assert {each.eval_crop for each in made_sets if "corrupted" in each.source} == {1.0}
    assert made_sets[0].eval_crop == DATA.eval_crop


def test_sets_can_come_from_elsewhere() -> None:
    assert parse_set("v2") == ("v2", SETS["v2"])
    assert parse_set("sketch=folder:s") == ("sketch", ImageSet("folder:s", "train"))
    _, test = parse_set("c=folder:c/{corruption}/{severity}")
    assert test.source.format(corruption="fog", severity=2) == "folder:c/fog/2"
    with pytest.raises(InputError, match=r"has no \{severity\}; expected both"):
        parse_set("c=folder:c/{corruption}")
    with pytest.raises(InputError, match="--sets"):
        parse_set("imagenet-v3")
    with pytest.raises(InputError, match="is a network for multilabel; expected classification"):
        robustness(network(threshold=0.5), SETS, DATA)


def test_the_command_writes_a_row_for_each_of_the_weights(
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = restore(tiny_run)
    images = Preprocessing(8, 1.0, "bilinear", (0.4,) * 3, (0.2,) * 3)
    weights = [str(tmp_path / name) for name in ("one", "two")]
    for folder in weights:
        save_pretrained(run.model, run.variables, folder, architecture="tiny", preprocessing=images)
    out = tmp_path / "r.csv"
    words = ["robustness", *weights, "--sets", "v2=synthetic:10", "--csv", str(out), "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)["networks"]
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == weights
    assert [float(row["v2"]) for row in rows] == [pytest.approx(each["v2"]) for each in facts]
    for wrong, message in ((["v2", "v2"], "each set once"), (["v2=tfds:"], "expected a name")):
        with pytest.raises(SystemExit, match="2"):
            main(["robustness", weights[0], "--sets", *wrong])
        assert message in capsys.readouterr().err
