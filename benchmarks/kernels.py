"""Count the kernels of a compiled program and the bytes that they move, by kind and by layer.

A kernel is an instruction that the device starts on its own: a fusion, a convolution, a copy. Its
bytes are those of its operands and results, as if no cache kept anything between two kernels. Of an
operand that a kernel only slices, the slices count. A loop's kernels count as often as it runs.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import hlo
from benchmarks.hlo import Array, Computation, Instruction, Program

FORWARD, TO_INPUT, TO_KERNEL = "convolutions", "gradients of inputs", "gradients of kernels"
CONVOLUTIONS = (FORWARD, TO_INPUT, TO_KERNEL)
PRODUCTS, REDUCTIONS, ELEMENTWISE = "matrix products", "reductions", "elementwise"
TRANSPOSES, COPIES, COLLECTIVES = "transposes", "copies", "collectives"
KINDS = (*CONVOLUTIONS, PRODUCTS, REDUCTIONS, ELEMENTWISE, TRANSPOSES, COPIES, COLLECTIVES)
_COMMUNICATING = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# They only name arrays, or end what another instruction began.
_FREE = {
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "async-done", "async-update",
}  # fmt: skip
_SLICES = ("slice", "dynamic-slice", "gather")
# What remains outside of every module: the optimizer, the guard and the metrics.
OUTSIDE = "update"


@dataclass(frozen=True)
class Kernel:
    """One kernel of a program.

    Attributes:
      times: how often it runs in one call of the program.
      bytes: what it reads and writes each time.
      opcodes: all operations in it.
      operands, results: the arrays that it reads and writes.
    """

    instruction: Instruction
    kind: str
    times: int
    bytes: int
    opcodes: frozenset[str]
    operands: tuple[Array, ...]
    results: tuple[Array, ...]

    @property
    def layer(self) -> str:
        """Return the outermost named part of the network, such as `layer1`, or `update`."""
        return layer_of(self.instruction.op_name)


def kernels(program: Program) -> list[Kernel]:
    """Return every kernel of a program, in the order in which they start."""
    return list(_within(program, program.entry, 1))


def by_kind(found: Sequence[Kernel]) -> dict[str, dict[str, int]]:
    """Return the number of kernels and their bytes, by kind."""
    totals = {kind: {"kernels": 0, "bytes": 0} for kind in KINDS}
    for kernel in found:
        totals[kernel.kind]["kernels"] += kernel.times
        totals[kernel.kind]["bytes"] += kernel.times * kernel.bytes
    return {kind: total for kind, total in totals.items() if total["kernels"]}


def by_layer(found: Sequence[Kernel]) -> dict[str, dict[str, int]]:
    """Return the number of kernels and their bytes, by the outermost part of the network."""
    totals: dict[str, dict[str, int]] = {}
    for kernel in found:
        total = totals.setdefault(kernel.layer, {"kernels": 0, "bytes": 0})
        total["kernels"] += kernel.times
        total["bytes"] += kernel.times * kernel.bytes
    return dict(sorted(totals.items()))


def collectives(found: Sequence[Kernel]) -> dict[str, Any]:
    """Return count, bytes, dtypes of each collective, and how many run beside other kernels.

    A collective runs beside others if another kernel starts between its start and its end.
    """
    totals: dict[str, Any] = {}
    for kernel in found:
        if kernel.kind != COLLECTIVES:
            continue
        name = kernel.instruction.opcode.removesuffix("-start")
        empty: dict[str, Any] = dict(count=0, bytes=0, asynchronous=0, dtypes={})
        total = totals.setdefault(name, empty)
        sent = sum(array.bytes for array in kernel.operands)
        total["count"] += kernel.times
        total["bytes"] += kernel.times * sent
        total["asynchronous"] += kernel.times * is_asynchronous(kernel.instruction)
        for array in kernel.operands:
            dtypes = total["dtypes"]
            dtypes[array.dtype] = dtypes.get(array.dtype, 0) + kernel.times * array.bytes
    return totals


def is_asynchronous(instruction: Instruction) -> bool:
    """Return whether other kernels can run while a collective does."""
    return instruction.opcode.endswith("-start") and '"is_sync":true' not in instruction.rest


def convolution_layouts(found: Sequence[Kernel], program: Program) -> dict[str, int]:
    """Return how many convolutions have each dtype and order of axes in memory.

    A key is `bf16 NHWC OHWI NHWC`: the images' dtype, and the order of images, kernel and result.
    """
    totals: dict[str, int] = {}
    for kernel in found:
        for instruction, (image, weights), result in _convolutions(kernel, program):
            one, two, three = instruction.labels or ("", "", "")
            orders = (
                hlo.image_order(image, one),
                hlo.kernel_order(weights, two),
                hlo.image_order(result, three),
            )
            key = " ".join((image.dtype, *orders))
            totals[key] = totals.get(key, 0) + kernel.times
    return totals


def float32_maps(found: Sequence[Kernel], program: Program) -> list[tuple[Kernel, Array]]:
    """Return the kernels that write float32 arrays with as many elements as a feature map.

    A feature map is what a convolution of the forward pass reads or writes.
    """
    sizes = set()
    for kernel in found:
        if kernel.kind == FORWARD:
            for _, (image, _), result in _convolutions(kernel, program):
                sizes |= {image.size, result.size}
    return [
        (kernel, array)
        for kernel in found
        for array in kernel.results
        if array.dtype in ("f32", "f64") and array.size in sizes
    ]


def layer_of(op_name: str) -> str:
    """Return the first module in an instruction's path, or `update` if it has none."""
    # The last word is the operation; `jit(...)`, `jvp(...)` and methods are not modules.
    parts = [part for part in op_name.split("/")[:-1] if not re.search(r"[(.]", part)]
    parts = [part for part in parts if part not in ("cond", "while", "body", "checkpoint")]
    # The network itself; modules without a name of their own have a number, such as `Conv_0`.
    parts = parts[1:] if parts and re.fullmatch("[A-Z][A-Za-z]+", parts[0]) else parts
    named = re.match(r"layer\d+", parts[0]) if parts else None
    return named[0] if named else parts[0] if parts else OUTSIDE


def _within(program: Program, computation: Computation, times: int) -> Iterator[Kernel]:
    for each in computation.instructions:
        if each.opcode == "while":
            yield from _within(program, program.computations[_body(each)], times * each.trips)
        elif each.opcode in ("call", "conditional", "async-start"):
            for name in each.called:
                yield from _within(program, program.computations[name], times)
        elif each.opcode not in _FREE and not each.opcode.endswith("-done"):
            yield _kernel(program, computation, each, times)


def _kernel(
    program: Program, computation: Computation, instruction: Instruction, times: int
) -> Kernel:
    fused = program.computations[instruction.called[0]] if instruction.opcode == "fusion" else None
    operands = [_result(computation, name) for name in instruction.operands]
    opcodes = frozenset(_opcodes(program, fused)) if fused else frozenset((instruction.opcode,))
    starts = instruction.opcode.endswith("-start")
    # The result of a start names its operands again.
    results = instruction.arrays if not starts else instruction.arrays[len(operands) :]
    read = _read(fused, operands) if fused else sum(map(_moved, _flat(operands)))
    written = _written(fused, results) if fused else sum(map(_moved, results))
    kind = _kind(instruction, opcodes, operands, program)
    return Kernel(instruction, kind, times, read + written, opcodes, _flat(operands), results)


def _kind(
    instruction: Instruction,
    opcodes: frozenset[str],
    operands: Sequence[tuple[Array, ...]],
    program: Program,
) -> str:
    target = instruction.target
    if instruction.opcode.removesuffix("-start") in _COMMUNICATING:
        return COLLECTIVES
    if "convolution" in opcodes or "$conv" in target:
        return _kind_of_convolution(instruction, program)
    if "dot" in opcodes or "gemm" in target or "matmul" in target:
        return PRODUCTS
    if opcodes & {"reduce", "reduce-window"}:
        return REDUCTIONS
    if "transpose" in opcodes:
        return TRANSPOSES
    if instruction.opcode in ("copy", "copy-start"):
        (source, *_), (result, *_) = operands[0], instruction.arrays
        return COPIES if source.order == result.order else TRANSPOSES
    return ELEMENTWISE


def _kind_of_convolution(instruction: Instruction, program: Program) -> str:
    if "BackwardFilter" in instruction.target:
        return TO_KERNEL
    inner = instruction
    if instruction.opcode == "fusion":
        inner = next(_all_of(program, program.computations[instruction.called[0]], "convolution"))
    if inner.labels and "0" not in inner.labels[0]:
        return PRODUCTS  # a TPU's compiler writes them as convolutions without pixels
    if inner.labels and inner.labels[0].startswith("f"):
        # The images of a batch are summed over, like the channels of a convolution.
        return TO_KERNEL
    backward = "BackwardInput" in instruction.target or "transpose(" in inner.op_name
    return TO_INPUT if backward else FORWARD


def _convolutions(
    kernel: Kernel, program: Program
) -> Iterator[tuple[Instruction, tuple[Array, Array], Array]]:
    """Yield each convolution of a kernel with its operands and its result."""
    if kernel.kind not in CONVOLUTIONS:
        return
    if kernel.instruction.opcode == "fusion":
        called = program.computations[kernel.instruction.called[0]]
        for inner in _all_of(program, called, "convolution"):
            home = next(
                each
                for each in program.computations.values()
                if each.by_name.get(inner.name) is inner
            )
            image, weights = (_result(home, name)[0] for name in inner.operands)
            yield inner, (image, weights), inner.arrays[0]
    else:
        image, weights = kernel.operands[:2]
        yield kernel.instruction, (image, weights), kernel.results[0]


def _all_of(program: Program, computation: Computation, opcode: str) -> Iterator[Instruction]:
    for each in computation.instructions:
        if each.opcode == opcode:
            yield each
        elif each.opcode == "fusion":
            yield from _all_of(program, program.computations[each.called[0]], opcode)


def _opcodes(program: Program, computation: Computation) -> Iterator[str]:
    for each in computation.instructions:
        yield each.opcode
        if each.opcode == "fusion":
            yield from _opcodes(program, program.computations[each.called[0]])


def _read(fused: Computation, operands: Sequence[tuple[Array, ...]]) -> int:
    """Return the bytes that a fusion reads; of what it only slices, the slices."""
    users: dict[str, list[Instruction]] = {}
    for each in fused.instructions:
        for name in each.operands:
            users.setdefault(name, []).append(each)
    parameters = [each for each in fused.instructions if each.opcode == "parameter"]
    # They are numbered, but not listed in this order.
    numbered = {each.number: users.get(each.name, []) for each in parameters}
    total = 0
    for number, arrays in enumerate(operands):
        whole = sum(map(_moved, arrays))
        mine = numbered.get(number, [])
        if mine and all(each.opcode in _SLICES for each in mine):
            whole = min(whole, sum(array.bytes for each in mine for array in each.arrays))
        elif mine and all(_only_updates(each, fused, number) for each in mine):
            whole = 0
        total += whole
    return total


def _written(fused: Computation, results: Sequence[Array]) -> int:
    """Return the bytes that a fusion writes; of an array that it updates in place, the update."""
    root = fused.root
    if root.opcode == "dynamic-update-slice":
        return sum(array.bytes for array in _result(fused, root.operands[1]))
    return sum(map(_moved, results))


def _only_updates(user: Instruction, fused: Computation, number: int) -> bool:
    first = fused.by_name.get(user.operands[0])
    updates = user.opcode == "dynamic-update-slice" and user.root
    return updates and first is not None and first.number == number


def _moved(array: Array) -> int:
    """Return the bytes that reach the device's main memory."""
    return 0 if array.on_chip else array.bytes


def _flat(groups: Sequence[tuple[Array, ...]]) -> tuple[Array, ...]:
    return tuple(array for group in groups for array in group)


def _result(computation: Computation, name: str) -> tuple[Array, ...]:
    return computation.by_name[name].arrays


def _body(loop: Instruction) -> str:
    found = re.search(r"body=%?([\w.-]+)", loop.rest)
    assert found, f"the loop {loop.name} has no body"
    return found[1]
