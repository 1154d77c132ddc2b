"""What `scan_blocks` and `remat` do to compile time, memory and step time of deep networks.

Every case compiles the same training step (forward, backward, new statistics) of one network:
plain, with `scan_blocks`, with `remat`, with both. Kept memory is what the forward pass hands to
the backward pass by JAX's own account; temporary memory is what the compiled program asks for
beside its arguments and results. XLA:CPU undoes part of what `remat` asks for.
"""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.environment import record_environment
from benchmarks.report import QUICK_RESULTS, RESULTS, result_path, shown, table, write_json
from flax_resnet.models import count_parameters, create_model

MODES = {
    "plain": dict(),
    "scan_blocks": dict(scan_blocks=True),
    "remat": dict(remat=True),
    "both": dict(scan_blocks=True, remat=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every case, write the JSON and print a table."""
    options = _parser().parse_args(arguments)
    models = options.models or (["cifar_resnet20"] if options.quick else ["cifar_resnet110"])
    batch_size = options.batch_size or (8 if options.quick else 128)
    cases = []
    for name in models:
        for mode in options.modes or MODES:
            cases.append(measure(name, mode, batch_size, steps=0 if options.compile_only else 1))
            print(_row(cases[-1]), flush=True)
    environment = record_environment(options.note)
    result = {
        "benchmark": "depth",
        "environment": environment,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cases": cases,
    }
    folder = options.output or (QUICK_RESULTS if options.quick else RESULTS)
    on_cpu = jax.default_backend() == "cpu"
    device = f"{environment['cores']} cores" if on_cpu else str(result["device"])
    path = result_path(folder, f"{'quick ' if options.quick else ''}depth {models[-1]}", device)
    write_json(path, result)
    print(f"\n{summary(result)}\n\nwritten to {shown(path)}")
    return 0


def measure(name: str, mode: str, batch_size: int, steps: int) -> dict[str, Any]:
    """Compile one case and take `steps` steps with it."""
    model = create_model(name, **MODES[mode])
    shape = (batch_size, model.image_size, model.image_size, model.in_channels)
    images = jnp.zeros(shape)
    # One value for all: what the numbers are makes no difference to the time.
    shapes = jax.eval_shape(model.init, jax.random.key(0), images[:1])
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), shapes)

    def loss(params: Any, variables: Any, images: jax.Array) -> Any:
        logits, new = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return (logits**2).mean(), new

    def step(variables: Any, images: jax.Array) -> Any:
        return jax.grad(loss, has_aux=True)(variables["params"], variables, images)

    def kept(params: Any, variables: Any, images: jax.Array) -> Any:
        return jax.vjp(lambda params: loss(params, variables, images), params, has_aux=True)[1]

    jax.clear_caches()
    began = time.perf_counter()
    lowered = jax.jit(step).lower(variables, images)
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory = compiled.memory_analysis()
    residuals = jax.tree.leaves(jax.eval_shape(kept, variables["params"], variables, images))
    seconds = []
    for _ in range(steps and steps + 1):
        start = time.perf_counter()
        jax.block_until_ready(compiled(variables, images))
        seconds.append(time.perf_counter() - start)
    return {
        "model": name,
        "mode": mode,
        "batch_size": batch_size,
        "parameters": count_parameters(model),
        "trace_s": traced - began,
        "compile_s": done - traced,
        "kept_bytes": sum(leaf.size * leaf.dtype.itemsize for leaf in residuals),
        "temporary_bytes": memory.temp_size_in_bytes if memory else None,
        "code_bytes": memory.generated_code_size_in_bytes if memory else None,
        "step_s": statistics.median(seconds[1:]) if seconds else None,
    }


def summary(result: dict[str, Any]) -> str:
    """Return the cases as a table."""
    header = ("model", "mode", "trace s", "compile s", "kept MiB", "temporary MiB", "step s")
    return table(header, [_row(case) for case in result["cases"]])


def _row(case: dict[str, Any]) -> tuple[str, ...]:
    memory, step = case["temporary_bytes"], case["step_s"]
    return (
        case["model"],
        case["mode"],
        f"{case['trace_s']:.1f}",
        f"{case['compile_s']:.1f}",
        f"{case['kept_bytes'] / 2**20:,.0f}",
        "" if memory is None else f"{memory / 2**20:,.0f}",
        "" if step is None else f"{step:.2f}",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", help="default: cifar_resnet110")
    parser.add_argument("--modes", nargs="+", choices=MODES, help="default: all")
    parser.add_argument("--batch-size", type=int, help="default: 128")
    parser.add_argument("--compile-only", action="store_true", help="take no steps")
    parser.add_argument("--quick", action="store_true", help="a small network, to try the script")
    parser.add_argument("--output", type=Path, help="folder of the JSON")
    parser.add_argument("--note", default="", help="a remark to keep with the numbers")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
