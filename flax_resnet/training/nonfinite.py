"""Find the layer and the records that caused a loss or gradient that is not finite."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool

from flax_resnet.data.positions import locate, position_of_row
from flax_resnet.data.sources.labels import balanced_members
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text
from flax_resnet.models import to_layout
from flax_resnet.steps.gradient import (
    dropout_key,
    join_rows,
    make_gradient,
    prepare_batch,
    split_batch,
)
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.step import jit_over
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.steps.updates.guard import DYNAMIC, current_scale
from flax_resnet.training.networks import load_teacher
from flax_resnet.training.setup import Setup

# Number of records in the message; the file names all.
SHOWN = 3
CAUSES = {
    "images": "the normalized images are not finite: see config.data.mean and config.data.std",
    "variables": "weights or statistics of {layer} were not finite before this batch",
    "output": "{layer} is the first layer whose output is not finite",
    "loss": "every layer's output is finite, but the loss computed with labels and weights is not",
    "gradient": "every layer's output is finite; in the backward pass {layer} is the first layer "
    "whose gradient is not",
    "nothing": "everything is finite when computed again, so the device is nondeterministic (see "
    "config.deterministic) or faulty",
}


@dataclass(frozen=True)
class Finding:
    """Where the first value that is not finite occurs.

    Attributes:
      cause: a key of `CAUSES`.
      layer: its published key, if the cause is in a layer.
      loss: the loss of the batch.
      suspect: bool (rows,), the rows that are not finite there; all, if no row stands out.
      skipped: int32 (rows,), as the loader gives it.
    """

    cause: str
    layer: str | None
    loss: float
    suspect: np.ndarray
    skipped: np.ndarray


def explain_nonfinite(setup: Setup, state: TrainState, number: int, workdir: Path) -> InputError:
    """Compute batch `number`, that of step `number + 1`, again and return an explanation.

    Every process of the run has to call this. `nonfinite-STEP.json` in `workdir` gives step,
    epoch, cause, layer and loss, and names all records of the batch.

    Args:
      state: the state before the batch, to which the step's guard returns.
    """
    config, step = setup.config, number + 1
    finding = find_cause(setup, state, number)
    records = _records(setup, number, finding)
    path = workdir / f"nonfinite-{step}.json"
    if jax.process_index() == 0:
        report = {
            "step": step,
            "epoch": records[0]["epoch"],
            "cause": finding.cause,
            "layer": finding.layer,
            "loss": str(finding.loss),
            "records": records,
        }
        replace_text(path, json.dumps(report, indent=2) + "\n")
    what = (
        "the gradient is not finite" if np.isfinite(finding.loss) else f"the loss is {finding.loss}"
    )
    if finding.cause == "nothing":
        what = "loss or gradient was not finite"
    before = f", after {config.max_nonfinite} bad updates" if config.max_nonfinite else ""
    return InputError(
        f"{what} at step {step}{before}: {CAUSES[finding.cause].format(layer=finding.layer)}. "
        f"{_named(records)}; {path} lists all. The newest checkpoint is older than this step. "
        f"{_advice(setup, finding)}"
    )


def find_cause(setup: Setup, state: TrainState, number: int) -> Finding:
    """Compute a batch again and check the output of every layer; see `explain_nonfinite`.

    This disables `scan_blocks` and `remat`. A scanned network then has different dropout, which
    rarely matters here.
    """
    config, names = setup.config, list[str]()
    batch = setup.training_batch(number)
    teacher = load_teacher(setup)
    look = _inspection(setup, number, names, teacher)
    inspect = jit_over(setup.mesh, look, config.deterministic, extra_replicated=1)
    taught = None if teacher is None else teacher.variables
    seen = jax.device_get(inspect(state, put_batch(batch, setup.mesh), taught))
    loss, skipped = float(seen["loss"]), seen["skipped"]
    none_good = np.zeros(len(skipped), bool)

    def finding(cause: str, layer: str | None = None, good: np.ndarray = none_good) -> Finding:
        return Finding(cause, layer, loss, ~good, skipped)

    def bad_layers(kind: str) -> list[str]:
        return sorted((name for name, good in seen[kind].items() if not good), key=names.index)

    if not seen["images"].all():
        return finding("images", None, seen["images"])
    if bad := bad_layers("variables"):
        return finding("variables", bad[0])
    for name, good in zip(names, seen["outputs"], strict=True):
        if not good.all():
            return finding("output", name, good)
    if not np.isfinite(loss):
        return finding("loss")
    if bad := bad_layers("gradient"):
        return finding("gradient", bad[-1])
    return finding("nothing")


def _inspection(
    setup: Setup, number: int, names: list[str], teacher: Teacher | None
) -> Callable[..., dict[str, Any]]:
    """Return a function of state, batch and teacher variables that finds the non-finite arrays.

    Args:
      names: takes the layers, in the order in which they end, when the function is traced.
    """
    config, model = setup.config, _one_by_one(setup.model)
    look: dict[str, Any] = dict(mean=config.data.mean, std=config.data.std, mixing=config.mix)
    count, group = config.accumulate, getattr(model, "norm_group", None)
    gradient = make_gradient(setup.model, setup.loss, micro_batches=count, teacher=teacher, **look)

    def inspect(state: TrainState, batch: dict[str, jax.Array], taught: Any) -> dict[str, Any]:
        outputs: dict[str, Array] = {}

        def watch(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            result = call(*args, **kwargs)
            if context.method_name == "__call__":
                outputs[_layer(context.module.path)] = _finite_rows(result)
            return result

        key = dropout_key(config.seed, number)
        images = prepare_batch(batch, key, **look)["image"]
        variables = to_layout(model, state.variables)

        def finite(images: jax.Array, key: jax.Array) -> Bool[Array, "n layers"]:
            rngs = {"dropout": key}
            with nn.intercept_methods(watch):
                model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
            names[:] = outputs
            return jnp.stack(list(outputs.values()), axis=1)

        if count == 1:
            layers = finite(images, key)
        else:
            rows = split_batch(images, key, count, group)
            layers = join_rows(jax.lax.map(lambda part: finite(*part), rows), group)
        scale = current_scale(state.guard, config.loss_scale)
        grads, (loss, _, _) = gradient(state.variables, batch, key, scale, taught)
        squares = jax.tree.map(jnp.square, grads)  # squared, as in the gradient norm
        return {
            "images": _finite_rows(images),
            "variables": _finite_layers(variables),
            "outputs": layers.T,
            "loss": loss,
            "gradient": _finite_layers(to_layout(model, {"params": squares})),
            "skipped": batch["skipped"],
        }

    return inspect


def _one_by_one(model: Any) -> Any:
    """Return the network without transformations that hide the outputs of layers."""
    changes = {name: False for name in ("scan_blocks", "remat") if hasattr(model, name)}
    if hasattr(model, "encoder"):
        changes["encoder"] = _one_by_one(model.encoder)
    return model.clone(**changes)


def _layer(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the whole network"


def _finite_rows(tree: Any) -> Bool[Array, " n"]:
    leaves = [jnp.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in jax.tree.leaves(tree)]
    return jnp.stack(leaves).all(0)


def _finite_layers(variables: Mapping[str, Any]) -> dict[str, Array]:
    """Return whether the leaves of each layer are finite."""
    layers: dict[str, Array] = {}
    for (_, *path, _), leaf in traverse_util.flatten_dict(dict(variables)).items():
        name = _layer(tuple(path))
        layers[name] = layers.get(name, True) & jnp.isfinite(leaf).all()
    return layers


def _records(setup: Setup, number: int, finding: Finding) -> list[dict[str, Any]]:
    """Return the origin of each row of a batch."""
    config, source = setup.config, setup.train_source
    repeats, members = config.data.augment.repeats, balanced_members(source, config.data)
    records = []
    for row, (suspect, skipped) in enumerate(zip(finding.suspect, finding.skipped, strict=True)):
        position = position_of_row(number, row, config.data.batch_size, repeats)
        epoch, index, _ = locate(position, config.seed, len(source), repeats, members)
        index = (index + int(skipped)) % len(source)  # past those that cannot be decoded
        place = {"epoch": epoch, "record": source.describe(index)}
        records.append(place | {"suspect": bool(suspect)})
    return records


def _named(records: list[dict[str, Any]]) -> str:
    names = [record["record"] for record in records if record["suspect"]]
    some = ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")
    if len(names) == len(records):
        return f"The batch has {len(names)} records: {some}"
    return f"This concerns {len(names)} of the batch's {len(records)} records: {some}"


def _advice(setup: Setup, finding: Finding) -> str:
    config = setup.config
    overflows = finding.cause == "gradient" and config.model.dtype == "float16"
    if overflows and config.loss_scale != DYNAMIC:
        return "config.loss_scale=dynamic finds a scale at which float16 does not overflow."
    return (
        "A lower config.schedule.learning_rate or a longer config.schedule.warmup usually helps; "
        f"config.max_nonfinite={config.max_nonfinite + 10} would skip as many such updates "
        "in a row."
    )
