"""The mean of a run's checkpoints: parameters, batch statistics, metrics, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import InputError, average_checkpoints, load_pretrained, restore, train
from flax_resnet.__main__ import main
from flax_resnet.models.variants import VARIANTS
from tests.conftest import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that keeps three checkpoints."""
    from flax_resnet.training.parsing import parse

    data = dict(source="synthetic:10", batch_size=16, image_size=8, crop="none", flip=False)
    data |= dict(eval_split="validation[:64]", workers=0)
    config = dict(steps=6, model={"name": "tiny"}, data=data)
    config["checkpoint"] = dict(every_steps=2, keep_latest=3)
    folder = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "tiny", TINY)
        train(parse(config), folder)
    return folder


def test_parameters_are_the_mean_and_statistics_are_measured_anew(
    run: Path, devices: Callable[[int], Mesh]
) -> None:
    found = average_checkpoints(run, last=3, batches=2, mesh=devices(1))
    members = [restore(run, step, average=False) for step in (2, 4, 6)]
    params = [jax.device_get(member.variables["params"]) for member in members]
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, 0, np.float64), *params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7),
        jax.device_get(found.run.variables["params"]),
        mean,
    )
    assert list(found.members) == [2, 4, 6]
    assert found.members[6] == members[-1].metrics
    assert (found.run.step, found.run.metrics["count"]) == (6, 64)
    stats, before = (
        jax.tree.leaves(jax.device_get(each.variables["batch_stats"]))
        for each in (found.run, members[-1])
    )
    assert all(np.abs(a - b).max() > 0 for a, b in zip(stats, before, strict=True))


def test_the_command_writes_weights_that_load(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mean"
    words = ["average", str(run), "--last", "2", "--batches", "2", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "step 4: not evaluated" in printed
    assert "their average: " in printed
    _, variables = load_pretrained(out)
    expected = average_checkpoints(run, last=2, batches=2).run.variables
    jax.tree.map(np.testing.assert_array_equal, variables["params"], expected["params"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"last": 1}, "last is 1; expected at least 2"),
        ({"batches": 0}, "batches is 0; expected at least 1"),
        ({"last": 4}, r"keeps 3 checkpoints \(steps 2, 4, 6\), and 4 are asked for: average fewer"),
    ],
)
def test_what_cannot_be_averaged_is_an_error(run: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        average_checkpoints(run, **changes)


def test_weights_have_no_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        average_checkpoints(tmp_path)
