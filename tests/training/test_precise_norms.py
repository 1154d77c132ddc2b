"""Recomputed batch statistics: exact for the batches, and the same after a stop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import evaluate_run, restore, train
from flax_resnet.data import open_source, train_batches
from flax_resnet.models import create_model
from flax_resnet.models.layers.norms import BatchNorm
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import put_batch, replicated
from flax_resnet.training.precise_norms import Moments, make_measure, population, without_start

LOOK = dict(mean=(0.5,), std=(0.25,))
Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


class OneNorm(nn.Module):
    """Normalize only the images, in ghost batches."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return BatchNorm(group_size=2, name="norm")(images, train)


def measured(model: nn.Module, variables: Any, images: np.ndarray, mesh: Mesh) -> Any:
    """Return the statistics of batches of images, uint8 (batches, n, h, w, c)."""
    measure = make_measure(model, mesh, **LOOK)
    zeros = jax.tree.map(np.zeros_like, jax.device_get(variables["batch_stats"]))
    moments = jax.device_put(Moments(np.int32(0), zeros, zeros), replicated(mesh))
    for number, batch in enumerate(images):
        rows = put_batch({"image": batch}, mesh)
        moments = measure((variables, moments, np.int32(number)), rows)
    return jax.device_get(jax.jit(population)(moments))


def batches(count: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    # Batches that are brighter than others: their means differ.
    top = rng.integers(20, 256, (count, 1, 1, 1, 1))
    return (rng.random((count, 8, 8, 8, 1)) * top).astype(np.uint8)


@pytest.mark.parametrize("count", [1, 4])
def test_the_statistics_of_batches_are_those_of_one_large_batch(
    devices: Meshes, count: int
) -> None:
    images, model = batches(6), OneNorm()
    variables = model.init(jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32))
    found = measured(model, dict(variables), images, devices(count))["norm"]
    pixels = (images.astype(np.float64) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(found["mean"], pixels.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["var"], pixels.var(), rtol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [{}, pytest.param({"scan_blocks": True, "remat": True}, marks=pytest.mark.slow)],
)
def test_a_network_with_the_statistics_of_a_batch_behaves_as_in_training(
    devices: Meshes, arguments: dict[str, Any]
) -> None:
    model = create_model("tiny", in_channels=1, stage_sizes=(3, 1), **arguments)
    images = batches(1)
    variables = dict(model.init(jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32)))
    precise = variables | {"batch_stats": measured(model, variables, images, devices(4))}
    chex.assert_trees_all_equal_shapes(precise, variables)
    inputs = normalize(images[0], **LOOK)
    trained, _ = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(model.apply(precise, inputs), trained, rtol=1e-4, atol=1e-5)


def test_frozen_norms_keep_their_statistics_to_the_last_bit(devices: Meshes) -> None:
    model = create_model("tiny", in_channels=1).clone(frozen="layer1")
    variables = dict(model.init(jax.random.key(0), np.zeros((2, 8, 8, 1), np.float32)))
    stats = jax.tree.map(lambda leaf: leaf + np.float32(0.1), variables["batch_stats"])
    found = measured(model, variables | {"batch_stats": stats}, batches(3), devices(1))
    chex.assert_trees_all_equal(found["layer1"], jax.device_get(stats["layer1"]))
    assert not np.array_equal(
        found["layer2"]["0"]["bn1"]["var"], stats["layer2"]["0"]["bn1"]["var"]
    )


# An epoch has 6 steps.
SWA: dict[str, Any] = dict(
    steps=12,
    data__train_split="train[:96]",
    average=dict(swa_from=0.5, every=2, precise_batches=3),
)


@pytest.mark.slow
def test_an_averaged_run_is_evaluated_with_its_own_statistics(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config, mesh = tiny_config(**SWA), devices(1)
    whole = train(config, tmp_path / "whole", mesh=mesh)
    assert whole.average == "swa"
    figures = evaluate_run(restore(tmp_path / "whole", "latest", mesh), mesh=mesh)
    assert {f"swa_{key}": figures[key] for key in ("loss", "top1")}.items() <= whole.metrics.items()
    raw = evaluate_run(restore(tmp_path / "whole", "latest", mesh, average=False), mesh=mesh)
    assert raw.items() <= whole.metrics.items()

    following = train_batches(open_source(config.data, "train[:96]"), config.data, seed=config.seed,
        start_batch=12, num_batches=3)  # fmt: skip
    images = np.stack([batch["image"] for batch in following])
    for average in (True, False):
        run = restore(tmp_path / "whole", "latest", mesh, average=average)
        stats = measured(run.model, run.variables, images, mesh)
        chex.assert_trees_all_close(jax.device_get(run.variables["batch_stats"]), stats, rtol=1e-6)

    for stop in (5, 9):
        stopped = train(config, tmp_path / "stopped", stop_after=stop, mesh=mesh)
    # No evaluation, so no statistics for the average of step 9.
    assert stopped.average is None
    assert restore(tmp_path / "stopped", "latest", mesh).average is None
    assert restore(tmp_path / "stopped", "best", mesh).average == "swa"
    again = train(config, tmp_path / "stopped", mesh=mesh)
    chex.assert_trees_all_equal(again.variables, whole.variables)
    assert again.metrics == whole.metrics
    assert train(config, tmp_path / "stopped", mesh=mesh).metrics == whole.metrics


def test_statistics_forget_what_they_started_from() -> None:
    images = np.asarray(np.random.default_rng(0).normal(3, 5, (8, 4, 4, 1)), np.float32)
    model = BatchNorm()
    variables = model.init(jax.random.key(0), images)
    for _ in range(4):
        _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
        variables = variables | updates
    found = without_start({"norm": variables["batch_stats"]}, 4)["norm"]
    np.testing.assert_allclose(found["mean"], images.mean(), rtol=1e-5)
    np.testing.assert_allclose(found["var"], images.var(ddof=1), rtol=1e-5)


def test_statistics_of_frozen_norms_stay() -> None:
    frozen = {"mean": np.zeros(3, np.float32), "var": np.ones(3, np.float32)}
    chex.assert_trees_all_equal(without_start({"a": {"bn": frozen}}, 7), {"a": {"bn": frozen}})
