"""Count what a compiled program uses: memory, flops, bytes, communication, data movement."""

import math
import re
import resource
from typing import Any

import jax

from benchmarks.case import Case
from flax_resnet.models import Network, count_macs, count_parameters

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16}
_SHAPE = re.compile(r"\b(pred|bf16|[a-z]\d+)\[([\d,]*)\]")
# `%name = SHAPE opcode(operands)`; a tuple's shape is in parentheses.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ([a-z][\w-]*)\(", re.MULTILINE)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*?^\}", re.MULTILINE | re.DOTALL)


def device_memory(device: jax.Device) -> dict[str, int]:
    """Return the statistics of the device's allocator; empty on a CPU."""
    stats: dict[str, int] = device.memory_stats() or {}
    return stats


def planned_bytes(compiled: Any) -> dict[str, int]:
    """Return the bytes in XLA's plan: arguments, results and temporaries."""
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes
    planned += plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return {"planned": planned, "temporary": plan.temp_size_in_bytes}


def peaks(
    idle: dict[str, int], built: dict[str, int], after: dict[str, int], compiled: Any
) -> dict[str, Any]:
    """Return peak bytes; `peak_is_of_compiling` if autotuning needed more than the steps."""
    peak, before = after.get("peak_bytes_in_use"), built.get("peak_bytes_in_use")
    return {
        "peak": peak,
        "peak_is_of_compiling": peak is not None and peak == before,
        "idle": idle.get("bytes_in_use"),
        **planned_bytes(compiled),
        "process_rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def kept_bytes(model: Network, variables: Any, images: jax.Array) -> int:
    """Return the bytes that the forward pass stores for the backward pass, according to JAX."""

    def residuals(params: Any, variables: Any, images: jax.Array) -> Any:
        def forward(params: Any) -> Any:
            everything = {**variables, "params": params}
            return model.apply(everything, images, train=True, mutable=["batch_stats"])

        return jax.vjp(forward, params, has_aux=True)[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, variables["params"], variables, images))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def work(case: Case, model: Network, compiled: Any) -> dict[str, float]:
    """Return the work of a step: by the network's definition, and by XLA after its optimizations.

    An update counts as three forward passes. XLA does not see into cuDNN's convolutions, so its
    own flops are low on a GPU; its bytes are what the kernels read and write.
    """
    passes = 1 if case.phase == "inference" else 3
    macs = count_macs(model, case.image_size)
    return {
        "parameters": count_parameters(model),
        "batch_size": case.batch_size,
        "model_flops": 2.0 * macs * passes * case.batch_size,
        **cost(compiled),
    }


def cost(compiled: Any) -> dict[str, float]:
    """Return XLA's count of a program's flops and of the bytes it reads and writes."""
    found = compiled.cost_analysis() or {}
    return {
        "xla_flops": float(found.get("flops", 0)),
        "xla_bytes": float(found.get("bytes accessed", 0)),
    }


def communication(text: str) -> dict[str, dict[str, int]]:
    """Return the count and result bytes of each collective in a program's text.

    An asynchronous collective counts once, and so does a loop's body.
    """
    found: dict[str, dict[str, int]] = {}
    for shape, opcode in _INSTRUCTION.findall(text):
        name = opcode.removesuffix("-done")
        # The start of an asynchronous collective has a shape that includes its operands.
        if name in COLLECTIVES:
            entry = found.setdefault(name, {"count": 0, "bytes": 0})
            entry["count"] += 1
            entry["bytes"] += shape_bytes(shape)
    return found


def count_moves(text: str) -> dict[str, int]:
    """Return the number of transposes and copies in a program's text, in total and unfused.

    Fused ones move no bytes of their own.
    """
    fused = set(re.findall(r"\bfusion\(.*?calls=%?([\w.-]+)", text))
    found = {"transposes": 0, "copies": 0, "standalone_transposes": 0, "standalone_copies": 0}
    for computation in _COMPUTATION.finditer(text):
        opcodes = [opcode for _, opcode in _INSTRUCTION.findall(computation[0])]
        for opcode, name in (("transpose", "transposes"), ("copy", "copies")):
            count = opcodes.count(opcode)
            found[name] += count
            found[f"standalone_{name}"] += 0 if computation[1] in fused else count
    return found


def shape_bytes(shape: str) -> int:
    """Return the bytes of a shape such as `f32[3,3,64]{...}`, or of a tuple of shapes."""
    total = 0
    for kind, sides in _SHAPE.findall(shape):
        bits = _BITS.get(kind) or int(re.sub(r"\D", "", kind))
        total += bits * math.prod(int(side) for side in sides.split(",") if side) // 8
    return total
