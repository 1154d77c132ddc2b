"""Measure flax_resnet's training step and inference in a process that needs only jax and flax."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

import flax_resnet
from benchmarks import case as cases
from benchmarks import program
from benchmarks.case import Case
from benchmarks.measuring import summarize
from flax_resnet.models.unet import UNet
from flax_resnet.models.unet_encoder import EncoderUNet
from flax_resnet.onednn.choice import for_inference
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import put_batch
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, jit_over, make_train_step
from flax_resnet.steps.tasks.table import TASKS


def run_case(case: Case, began: float) -> dict[str, Any]:
    """Measure one phase on the first device.

    Raises:
      RuntimeError: jax does not find the platform of the case.
    """
    if jax.default_backend() != case.platform:
        raise RuntimeError(f"jax runs on {jax.default_backend()}; expected {case.platform}")
    device = jax.devices()[0]
    described = {"device": device.device_kind if case.platform == "gpu" else "cpu"}
    if case.phase == "ceilings":
        return described | _ceilings(case, began)
    mesh = Mesh(np.asarray([device]), ("data",))
    make = inference_program if case.phase == "inference" else train_program
    function, arguments, advance = make(case, mesh)
    jax.block_until_ready(arguments)
    idle = program.device_memory(device)

    start = time.perf_counter()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    built = program.device_memory(device)
    described |= {"trace_s": traced - start, "compile_s": done - traced}
    if case.phase == "memory" and case.platform == "cpu":
        # There XLA's plan is all that can be measured, and a large batch would take long.
        return described | {"memory": program.planned_bytes(compiled) | _kept(case, arguments)}
    state = [arguments]

    def run(steps: int) -> Any:
        for _ in range(steps):
            outcome = compiled(*state[0])
            state[0] = advance(state[0], outcome)
            if case.platform == "cpu":
                # XLA:CPU may run independent steps in parallel, so one step could not be timed.
                jax.block_until_ready(outcome)
        return jax.block_until_ready(outcome)

    run(1)
    first, first_at = time.perf_counter(), time.monotonic()
    repeats = cases.timed_repeats(run, case, began)
    loss = cases.said(float(run(1)[1]["loss"])) if case.phase == "train" else None
    if case.dump:
        _dump(case, compiled)
    memory = program.peaks(idle, built, program.device_memory(device), compiled)
    if case.phase == "memory":
        memory |= _kept(case, state[0])
    return described | {
        "repeats": repeats,
        "first_step_s": first - start,
        "first_step_at": first_at,
        "memory": memory,
        "work": program.work(case, make_model(case), compiled),
        "loss": loss,
    }


Advance = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]


def train_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...], Advance]:
    """Return the trainer's step, its arguments, and a function that makes the next arguments.

    The batch is split over the mesh.
    """
    step, model, optimizer = make_step(case, mesh)
    shape = (case.image_size, case.image_size, 3)
    state = init_state(model, optimizer, 0, shape, mesh)
    images, labels = cases.inputs(case)
    batch = put_batch({"image": images, "label": labels}, mesh)
    return step, (state, batch), lambda arguments, outcome: (outcome[0], arguments[1])


def make_step(case: Case, mesh: Mesh) -> tuple[Any, Any, optax.GradientTransformation]:
    """Return the trainer's step, the case's network and its optimizer."""
    model, (optimizer, rate) = make_model(case), make_optimizer()
    loss = TASKS["segmentation" if classifies_pixels(model) else "classification"].loss
    parts = StepParts(
        model, optimizer, rate, mean=cases.MEAN, std=cases.STD, loss=loss, max_nonfinite=0
    )
    return make_train_step(parts, mesh), model, optimizer


def classifies_pixels(model: Any) -> bool:
    """Return whether a network returns the logits of every pixel."""
    return isinstance(model, UNet | EncoderUNet)


def make_optimizer() -> tuple[optax.GradientTransformation, optax.Schedule]:
    """Return SGD with momentum and weight decay, and its learning rate."""

    def rate(step: jax.Array) -> jax.Array:
        return jnp.full_like(step, cases.LEARNING_RATE, jnp.float32)

    optimizer = optax.chain(
        optax.add_decayed_weights(cases.WEIGHT_DECAY),
        optax.trace(cases.MOMENTUM),
        optax.scale_by_learning_rate(rate),
    )
    return optimizer, rate


def inference_program(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...], Advance]:
    """Return the inference function, its arguments, and a function that returns them unchanged."""
    model = make_model(case)

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, normalize(images, cases.MEAN, cases.STD), train=False)

    device = mesh.devices.flat[0]
    shape = (1, case.image_size, case.image_size, 3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))
    if case.mode == "folded":
        model, folded = flax_resnet.fold_batch_norm(model, variables)
        variables = jax.device_put(folded, device)
    images = jax.device_put(cases.inputs(case)[0], device)
    compiled = jit_over(mesh, for_inference(logits))
    return compiled, (variables, images), lambda arguments, outcome: arguments


def make_model(case: Case) -> flax_resnet.models.Network:
    """Return the case's network."""
    arguments: dict[str, Any] = {}
    if case.shallow:
        arguments |= dict(stage_sizes=(1,) * 4, widths=(64,) * 4)
    if case.stage_sizes:
        arguments |= dict(stage_sizes=tuple(case.stage_sizes))
    # Not every network has equal blocks or batch norm, so these are passed only if set.
    for name in ("remat", "scan_blocks", "norm_group"):
        if getattr(case, name):
            arguments[name] = getattr(case, name)
    return flax_resnet.create_model(
        case.model,
        num_classes=case.num_classes,
        image_size=case.image_size,
        dtype=case.dtype,
        **arguments,
    )


def _kept(case: Case, arguments: tuple[Any, ...]) -> dict[str, int]:
    state, batch = arguments
    images = normalize(batch["image"], cases.MEAN, cases.STD)
    return {"kept": program.kept_bytes(make_model(case), state.variables, images)}


def _ceilings(case: Case, began: float) -> dict[str, Any]:
    """Return what the device reaches on a large matrix product and on a large copy."""
    side, length = (8192, 2**28) if case.platform == "gpu" else (1024, 2**23)
    keys = jax.random.split(jax.random.key(0), 3)
    left, right = (jax.random.normal(key, (side, side), case.dtype) for key in keys[:2])
    vector = jax.random.normal(keys[2], (length,), jnp.float32)

    def rate(function: Any, arguments: tuple[Any, ...], amount: float) -> dict[str, Any]:
        def run(steps: int) -> None:
            for _ in range(steps):
                outcome = function(*arguments)
                if case.platform == "cpu":
                    outcome.block_until_ready()
            outcome.block_until_ready()

        repeats = cases.timed_repeats(run, case, began)
        return summarize([amount * repeat.steps / repeat.seconds for repeat in repeats])

    product = jax.jit(jnp.matmul)
    copy = jax.jit(lambda x: x + 1)
    return {
        "flops_per_s": rate(product, (left, right), 2.0 * side**3),
        "bytes_per_s": rate(copy, (vector,), 2.0 * vector.nbytes),
    }


def _dump(case: Case, compiled: Any) -> None:
    folder = Path(case.dump or ".")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.model}_{case.phase}.hlo.txt").write_text(compiled.as_text())


if __name__ == "__main__":
    cases.child_main(run_case)
