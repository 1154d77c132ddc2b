"""What a compiled program asks for: memory, arithmetic, traffic, communication, data movement."""

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
# `%name = SHAPE opcode(operands)`; a tuple's shape stands in brackets.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ([a-z][\w-]*)\(", re.MULTILINE)
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*?^\}", re.MULTILINE | re.DOTALL)


def device_memory(device: jax.Device) -> dict[str, int]:
    """Return what the device's allocator tells; nothing on a CPU."""
    stats: dict[str, int] = device.memory_stats() or {}
    return stats


def planned_bytes(compiled: Any) -> dict[str, int]:
    """Return what XLA's own plan holds at once: arguments, results and temporaries."""
    plan = compiled.memory_analysis()
    planned = plan.argument_size_in_bytes + plan.output_size_in_bytes
    planned += plan.temp_size_in_bytes - plan.alias_size_in_bytes
    return {"planned": planned, "temporary": plan.temp_size_in_bytes}


def peaks(
    idle: dict[str, int], built: dict[str, int], after: dict[str, int], compiled: Any
) -> dict[str, Any]:
    """Return bytes; the peak is one of compiling where trying out kernels took more than a step."""
    peak, before = after.get("peak_bytes_in_use"), built.get("peak_bytes_in_use")
    return {
        "peak": peak,
        "peak_is_of_compiling": peak is not None and peak == before,
        "idle": idle.get("bytes_in_use"),
        **planned_bytes(compiled),
        "process_rss_peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def kept_bytes(model: Network, variables: Any, images: jax.Array) -> int:
    """Return what the forward pass hands to the backward pass, by JAX's own account."""

    def residuals(params: Any, variables: Any, images: jax.Array) -> Any:
        def forward(params: Any) -> Any:
            everything = {**variables, "params": params}
            return model.apply(everything, images, train=True, mutable=["batch_stats"])

        return jax.vjp(forward, params, has_aux=True)[1]

    leaves = jax.tree.leaves(jax.eval_shape(residuals, variables["params"], variables, images))
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def work(case: Case, model: Network, compiled: Any) -> dict[str, float]:
    """Count a step's work: by the network's definition, and by XLA after its optimisations.

    An update counts as three forward passes. XLA does not see into cuDNN's convolutions, so its
    own flops are low on a GPU; its bytes are those that the kernels read and write.
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
    """Return XLA's own count of a program's arithmetic and of the bytes it reads and writes."""
    found = compiled.cost_analysis() or {}
    return {
        "xla_flops": float(found.get("flops", 0)),
        "xla_bytes": float(found.get("bytes accessed", 0)),
    }


def communication(text: str) -> dict[str, dict[str, int]]:
    """Return how often each collective stands in a program's text, and the bytes it hands out.

    One that is started and waited for apart counts once. A loop's body counts once too.
    """
    found: dict[str, dict[str, int]] = {}
    for shape, opcode in _INSTRUCTION.findall(text):
        name = opcode.removesuffix("-done")
        # The start of an asynchronous one has its operands in its shape, and more.
        if name in COLLECTIVES:
            entry = found.setdefault(name, {"count": 0, "bytes": 0})
            entry["count"] += 1
            entry["bytes"] += shape_bytes(shape)
    return found


def count_moves(text: str) -> dict[str, int]:
    """Return how often a program's text transposes and copies: in all, and outside of fusions.

    What is fused moves no bytes of its own.
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
    """Return the bytes of `f32[3,3,64]{...}` or of a tuple of such."""
    total = 0
    for kind, sides in _SHAPE.findall(shape):
        bits = _BITS.get(kind) or int(re.sub(r"\D", "", kind))
        total += bits * math.prod(int(side) for side in sides.split(",") if side) // 8
    return total
