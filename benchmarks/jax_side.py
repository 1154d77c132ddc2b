"""flax_resnet's training step and inference, measured in a process that has only jax and flax."""

import resource
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
from benchmarks.case import Case
from benchmarks.timing import summarize
from flax_resnet.models import count_macs, count_parameters
from flax_resnet.training.mesh import put_batch
from flax_resnet.training.state import init_state
from flax_resnet.training.step import make_train_step, normalize


def run_case(case: Case, began: float) -> dict[str, Any]:
    """Measure one phase on the first device.

    Raises:
      RuntimeError: jax does not see the platform that the case asks for.
    """
    if jax.default_backend() != case.platform:
        raise RuntimeError(f"jax runs on {jax.default_backend()}; expected {case.platform}")
    device = jax.devices()[0]
    described = {"device": device.device_kind if case.platform == "gpu" else "cpu"}
    if case.phase == "ceilings":
        return described | _ceilings(case, began)
    mesh = Mesh(np.asarray([device]), ("data",))
    make = {"train": _train, "inference": _inference}[case.phase]
    function, arguments, advance = make(case, mesh)
    jax.block_until_ready(arguments)
    idle = _memory(device)

    start = time.perf_counter()
    lowered = function.lower(*arguments)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    built = _memory(device)
    state = [arguments]

    def run(steps: int) -> Any:
        for _ in range(steps):
            outcome = compiled(*state[0])
            state[0] = advance(state[0], outcome)
            if case.platform == "cpu":
                # XLA:CPU may run independent steps side by side, which would not be one step.
                jax.block_until_ready(outcome)
        return jax.block_until_ready(outcome)

    run(1)
    first = time.perf_counter()
    repeats = cases.timed_repeats(run, case, began)
    loss = cases.said(float(run(1)[1]["loss"])) if case.phase == "train" else None
    if case.dump:
        _dump(case, compiled)
    return described | {
        "repeats": repeats,
        "first_step_s": first - start,
        "trace_s": traced - start,
        "compile_s": done - traced,
        "memory": _peaks(idle, built, _memory(device), compiled),
        "work": _work(case, compiled),
        "loss": loss,
    }


Advance = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]


def _train(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...], Advance]:
    """Return the trainer's own step, its arguments, and how the next step's follow from them."""
    model = _model(case)

    def rate(step: jax.Array) -> jax.Array:
        return jnp.full_like(step, cases.LEARNING_RATE, jnp.float32)

    optimizer = optax.chain(
        optax.add_decayed_weights(cases.WEIGHT_DECAY),
        optax.trace(cases.MOMENTUM),
        optax.scale_by_learning_rate(rate),
    )
    shape = (case.image_size, case.image_size, 3)
    state = init_state(model, optimizer, 0, shape, mesh)
    images, labels = cases.inputs(case)
    batch = put_batch({"image": images, "label": labels}, mesh)
    step = make_train_step(
        model, optimizer, rate, mesh, mean=cases.MEAN, std=cases.STD, max_nonfinite=0
    )
    return step, (state, batch), lambda arguments, outcome: (outcome[0], arguments[1])


def _inference(case: Case, mesh: Mesh) -> tuple[Any, tuple[Any, ...], Advance]:
    model = _model(case)

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, normalize(images, cases.MEAN, cases.STD), train=False)

    device = mesh.devices.flat[0]
    shape = (1, case.image_size, case.image_size, 3)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros(shape))
    images = jax.device_put(cases.inputs(case)[0], device)
    return jax.jit(logits), (variables, images), lambda arguments, outcome: arguments


def _model(case: Case) -> flax_resnet.models.Network:
    shallow = dict(stage_sizes=(1,) * 4, widths=(64,) * 4) if case.shallow else {}
    return flax_resnet.create_model(
        case.model,
        num_classes=case.num_classes,
        image_size=case.image_size,
        dtype=case.dtype,
        **shallow,
    )


def _memory(device: jax.Device) -> dict[str, int]:
    stats: dict[str, int] = device.memory_stats() or {}
    return stats


def _peaks(
    idle: dict[str, int], built: dict[str, int], after: dict[str, int], compiled: Any
) -> dict[str, Any]:
    """Return bytes; the peak is one of compiling where trying out kernels took more than a step.

    `planned` is what XLA's own plan holds at once: arguments, results and temporaries.
    """
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes
    planned += plan.temp_size_in_bytes - plan.alias_size_in_bytes
    peak, before = after.get("peak_bytes_in_use"), built.get("peak_bytes_in_use")
    return {
        "peak": peak,
        "peak_is_of_compiling": peak is not None and peak == before,
        "idle": idle.get("bytes_in_use"),
        "planned": planned,
        "process_rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _work(case: Case, compiled: Any) -> dict[str, float]:
    """Count a step's work: by the network's definition, and by XLA after its optimisations.

    An update counts as three forward passes. XLA does not see into cuDNN's convolutions, so its
    own flops are low on a GPU; its bytes are those that the kernels read and write.
    """
    cost = compiled.cost_analysis() or {}
    passes = 3 if case.phase == "train" else 1
    model = _model(case)
    macs = count_macs(model, case.image_size)
    return {
        "parameters": count_parameters(model),
        "batch_size": case.batch_size,
        "model_flops": 2.0 * macs * passes * case.batch_size,
        "xla_flops": float(cost.get("flops", 0)),
        "xla_bytes": float(cost.get("bytes accessed", 0)),
    }


def _ceilings(case: Case, began: float) -> dict[str, Any]:
    """Measure what the device reaches on one large matrix product and on one large copy."""
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
