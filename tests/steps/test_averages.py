"""Averages of a run's variables: their values, and how a run stores and evaluates them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flax_resnet import evaluate_run, restore, train
from flax_resnet.errors import InputError
from flax_resnet.models import create_model
from flax_resnet.steps.averages import Average, AverageConfig, begin_average, make_averaging
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, make_train_step
from flax_resnet.steps.tasks.table import CLASSIFICATION
from flax_resnet.training.checkpoints import store
from flax_resnet.training.parsing import parse

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]
# An epoch has 5 steps.
EMA = dict(steps=20, data__train_split="train[:80]", average__ema=0.8, average__every=2)


def followed(config: AverageConfig, path: np.ndarray, steps_per_epoch: float = 10.0) -> Average:
    """Return the average after updates along `path`, (updates + 1, size)."""
    averaging = make_averaging(config, steps_per_epoch)
    assert averaging is not None

    def one(average: Average, update: Any) -> tuple[Average, None]:
        number, values = update
        later, due = averaging(average, {"w": values}, number)
        kept = jax.tree.map(lambda new, old: jnp.where(due, new, old), later, average)
        return kept, None

    def run(path: jax.Array) -> Average:
        first = begin_average(config.kind, {"w": path[0]})
        return jax.lax.scan(one, first, (jnp.arange(1, len(path)), path[1:]))[0]

    return jax.jit(run)(path.astype(np.float32))


@pytest.fixture(scope="module")
def path() -> np.ndarray:
    return np.random.default_rng(0).normal(5, 1, (60, 7))


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("warmup", [False, True])
def test_an_exponential_average_is_that_of_a_loop_in_float64(
    path: np.ndarray, warmup: bool, every: int
) -> None:
    expected, count = path[0], 0
    for number, values in enumerate(path[1:], start=1):
        if number % every == 0:
            count += 1
            decay = min(0.95, (1 + count) / (10 + count)) if warmup else 0.95
            expected = decay * expected + (1 - decay) * values
    found = followed(AverageConfig(ema=0.95, ema_warmup=warmup, every=every), path)
    np.testing.assert_allclose(found.variables["w"], expected, rtol=1e-6)
    assert found.count == count


def test_an_exponential_average_follows_the_parameters_until_its_epoch(path: np.ndarray) -> None:
    config = AverageConfig(ema=0.9, ema_from=3.0)
    before = followed(config, path[:30])
    np.testing.assert_array_equal(before.variables["w"], path[29].astype(np.float32))
    assert before.count == 0
    after = followed(config, path[:31])
    np.testing.assert_allclose(after.variables["w"], 0.9 * path[29] + 0.1 * path[30], rtol=1e-6)


@pytest.mark.parametrize("every", [1, 10])
def test_a_stochastic_weight_average_is_the_mean_of_its_parameters(
    path: np.ndarray, every: int
) -> None:
    found = followed(AverageConfig(swa_from=2.0, every=every, precise_batches=1), path)
    seen = path[20::every]
    np.testing.assert_allclose(found.variables["w"], seen.mean(0), rtol=1e-6)
    assert found.count == len(seen)
    early = followed(AverageConfig(swa_from=9.0, precise_batches=1), path)
    np.testing.assert_array_equal(early.variables["w"], path[0].astype(np.float32))
    assert early.count == 0


def test_a_weight_of_one_copies_exactly() -> None:
    path = np.asarray([[1e8], [1.0]])
    for config in (
        AverageConfig(ema=0.5, ema_from=9),
        AverageConfig(swa_from=0, precise_batches=1),
    ):
        assert followed(config, path).variables["w"] == 1


@pytest.mark.usefixtures("one_stage")
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_step_averages_its_variables_and_skips_a_bad_update(devices: Meshes, count: int) -> None:
    model, mesh = create_model("tiny", in_channels=1), devices(count)
    rate = optax.constant_schedule(0.1)
    optimizer = optax.sgd(rate, momentum=0.9)

    def loss(logits: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        value, accuracy = CLASSIFICATION.loss(logits, batch)
        return value / batch["divisor"][0], accuracy

    averaging = make_averaging(AverageConfig(ema=0.7), 1.0)
    settings = dict(loss=loss, max_nonfinite=3, averaging=averaging)
    step = make_train_step(StepParts(model, optimizer, rate, (0.5,), (0.25,), **settings), mesh)
    state = init_state(model, optimizer, 0, (8, 8, 1), mesh, "ema")
    rng, expected = np.random.default_rng(0), float64(state.variables)
    for number in range(4):
        batch = {
            "image": rng.integers(0, 256, (16, 8, 8, 1), np.uint8),
            "label": rng.integers(0, 10, 16, np.int32),
            "divisor": np.full(16, 0.0 if number == 2 else 1.0, np.float32),
        }
        before = jax.device_get(state.average)
        state, _ = step(state, put_batch(batch, mesh))
        if number == 2:
            chex.assert_trees_all_equal(jax.device_get(state.average), before)
        else:
            new = float64(state.variables)
            expected = jax.tree.map(lambda old, new: 0.7 * old + 0.3 * new, expected, new)
    assert state.average is not None
    assert state.average.count == 3
    chex.assert_trees_all_close(float64(state.average.variables), expected, rtol=2e-6, atol=1e-7)


def float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("averages")


@pytest.fixture
def whole(workdir: Path, tiny_config: Configs, devices: Meshes) -> Any:
    """The run of EMA, trained once."""
    return train(tiny_config(**EMA), workdir, mesh=devices(1))


def evaluations(workdir: Path) -> list[dict[str, float]]:
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == "eval"]


def test_both_are_evaluated_and_the_average_ranks(whole: Any, devices: Meshes) -> None:
    found = evaluations(whole.workdir)
    assert {"loss", "top1", "top5", "ema_loss", "ema_top1", "ema_top5"} <= found[-1].keys()
    best, mesh = restore(whole.workdir, mesh=devices(1)), devices(1)
    assert best.metrics["ema_top1"] == max(row["ema_top1"] for row in found)
    assert best.average == "ema"
    averaged = evaluate_run(best, mesh=mesh)
    raw_run = restore(whole.workdir, mesh=mesh, average=False)
    raw = evaluate_run(raw_run, mesh=mesh)
    assert raw_run.average is None
    both = raw | {f"ema_{key}": averaged[key] for key in ("loss", "top1", "top5")}
    assert both == pytest.approx(best.metrics)
    assert raw["loss"] != averaged["loss"]


@pytest.mark.slow
def test_a_stopped_run_has_the_same_average(
    whole: Any, tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(**EMA)
    train(config, tmp_path, stop_after=7, mesh=devices(1))
    resumed = train(config, tmp_path, mesh=devices(1))
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    assert (resumed.average, whole.average) == ("ema", "ema")
    assert evaluations(tmp_path) == evaluations(whole.workdir)
    latest = restore(tmp_path, "latest", devices(8))
    chex.assert_trees_all_equal(latest.variables, whole.variables)


@pytest.mark.slow
def test_an_average_can_be_added_or_dropped_between_starts(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for stop, decay, every, words in (
        (2, 0.0, 1, ""),
        (3, 0.9, 2, "the checkpoint has no average: it starts from the parameters"),
        (4, 0.0, 1, "the checkpoint's average is dropped"),
    ):
        settings = dict(average__ema=decay, average__every=every)
        config = tiny_config(steps=6, eval_every_epochs=100.0, **settings)
        run = train(config, tmp_path, stop_after=stop, allow_config_change=True, mesh=devices(1))
        printed = capsys.readouterr().out
        assert words in printed
        assert ("warning" in printed) == bool(words)
        # The average begins with an even update.
        assert run.average is None
        assert (tmp_path / store.FOLDER / str(stop) / "average").is_dir() == (decay > 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 1.0}, "average.ema is 1.0; expected 0 or more, below 1"),
        ({"every": 0}, "average.every is 0; expected at least 1"),
        ({"ema_from": -1.0}, "average.ema_from is -1.0; expected 0 or more epochs"),
        ({"precise_batches": -1}, "average.precise_batches is -1; expected 0 or more"),
        ({"ema": 0.9, "swa_from": 1.0}, "expected only one of them"),
        ({"swa_from": 1.0}, "precise_batches is 0; expected a number of batches"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse({"average": settings})
