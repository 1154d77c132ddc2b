"""Train with the trainer's own step, gradient and optimizer on given batches and weights."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import flax_resnet
from benchmarks import case as cases
from benchmarks.peers.training_case import Record, TrainingCase
from flax_resnet.onednn.choice import choose_kernels, for_inference
from flax_resnet.steps.gradient import make_gradient, normalize
from flax_resnet.steps.mesh import put_batch, replicated
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, jit_over, make_train_step
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.steps.updates.optimizers import make_optimizer
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import build_model

TEST_BATCH = 500


def run_case(case: TrainingCase, began: float) -> dict[str, Any]:
    """Train and write the record; return the kernels that computed the convolutions."""
    del began
    jax.config.update("jax_enable_x64", case.dtype == "float64")
    config = parse(json.loads((Path(case.folder) / "config.json").read_text()))
    mesh = Mesh(np.asarray(jax.devices()[:1]), ("data",))
    parts, state = prepared(case, config, mesh)
    step, gradient, record = make_train_step(parts, mesh), make_kept_gradient(parts, mesh), Record()
    images, labels = case.read("images"), case.read("labels")
    for number in range(len(labels)):
        batch = put_batch({"image": images[number], "label": labels[number]}, mesh)
        if number in case.kept_steps:
            record.keep(number, "weights", flax_resnet.to_torch(parts.model, state.variables))
            kept, loss = gradient(state.variables, batch)
            statistics = {"batch_stats": state.variables["batch_stats"]}
            values = flax_resnet.to_torch(parts.model, {"params": kept} | statistics)
            named = {key: each for key, each in values.items() if "running" not in key}
            record.keep(number, "gradient", named)
            record.keep(number, "loss", {"": loss})
        state, metrics = step(state, batch)
        record.add(metrics["loss"])
    record.write(case, predictions(parts, case, state.variables, mesh) if case.tests else ())
    return {"kernels": choose_kernels(mesh)}


def prepared(case: TrainingCase, config: TrainConfig, mesh: Mesh) -> tuple[StepParts, Any]:
    """Return the parts of the trainer's step, and the state with the weights of the case."""
    rates = jnp.asarray(case.read("rates"))
    network = dataclasses.replace(config.model, dtype=case.dtype)
    model = build_model(network, config.data.channels, config.data.image_size)
    optimizer = make_optimizer(config.optimizer, lambda step: rates[step], "", None)
    task = TASKS[config.task]
    settings = {name: getattr(config, name) for name in task.settings if name != "class_weights"}
    parts = StepParts(
        model,
        optimizer,
        lambda step: rates[step],
        mean=case.mean,
        std=case.std,
        loss=functools.partial(task.loss, **settings),
        max_nonfinite=0,
    )
    variables = flax_resnet.from_torch(model, case.initial())
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, case.dtype), variables)
    side = config.data.image_size
    state = init_state(model, optimizer, 0, (side, side, config.data.channels), mesh)
    state = state.starting_from(jax.device_put(variables, replicated(mesh)))
    return parts, state.replace(optimizer=optimizer.init(state.variables["params"]))


def make_kept_gradient(parts: StepParts, mesh: Mesh) -> Any:
    """Return the jitted gradient of the parameters, with the loss."""
    gradient = make_gradient(parts.model, parts.loss, mean=parts.mean, std=parts.std)

    def found(variables: Any, batch: Any) -> tuple[Any, jax.Array]:
        grads, (loss, _, _) = gradient(variables, batch, jax.random.key(0))
        return grads, loss

    return jit_over(mesh, found)


def predictions(parts: StepParts, case: TrainingCase, variables: Any, mesh: Mesh) -> list[Any]:
    """Return the predicted classes of the test images."""

    def predicted(variables: Any, images: jax.Array) -> jax.Array:
        logits = parts.model.apply(variables, normalize(images, case.mean, case.std), train=False)
        return jnp.asarray(logits).argmax(-1)

    classify, images = jit_over(mesh, for_inference(predicted)), case.read("test_images")
    starts = range(0, len(images), TEST_BATCH)
    return [classify(variables, images[at : at + TEST_BATCH]) for at in starts]


if __name__ == "__main__":
    cases.child_main(run_case, TrainingCase)
