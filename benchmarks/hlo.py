"""Read the text of a compiled program: its computations and their instructions."""

import functools
import math
import re
from dataclasses import dataclass

_BITS = {"pred": 8, "bf16": 16}
_SHAPE = re.compile(r"\b(pred|bf16|[a-z]\d+\w*)\[([\d,]*)\](?:\{([\d,]*)([^}]*)\})?")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\) -> .* \{$")
# `%name = SHAPE opcode(operands), attributes`; a tuple's shape is in parentheses.
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?(\S+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)$")
_COMMENT = re.compile(r"/\*.*?\*/")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition|called_computations)=\{?%?([\w.-]+)")
_LABELS = re.compile(r"dim_labels=(\w+)_(\w+)->(\w+)")
# The letters of XLA's dimensions in images and in kernels.
_IMAGE = {"b": "N", "0": "H", "1": "W", "f": "C"}
_KERNEL = {"0": "H", "1": "W", "i": "I", "o": "O"}


@dataclass(frozen=True)
class Array:
    """The type and the shape of an array, and how it lies in memory.

    Attributes:
      order: the axes from the slowest to the fastest, empty where the text does not say.
      on_chip: whether it lies in the memory of the chip (a TPU's VMEM) and not in HBM.
    """

    dtype: str
    sides: tuple[int, ...]
    order: tuple[int, ...] = ()
    on_chip: bool = False

    @property
    def size(self) -> int:
        """Return the number of elements."""
        return math.prod(self.sides)

    @property
    def bytes(self) -> int:
        """Return the bytes of the elements."""
        bits = _BITS.get(self.dtype) or int(re.findall(r"\d+", self.dtype)[0])
        return bits * self.size // 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      shape: its result; that of a tuple has several arrays.
      rest: the text after the operands.
      number: of a parameter.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    root: bool
    number: int | None = None

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """Return the arrays of the result."""
        return arrays(self.shape)

    @property
    def called(self) -> tuple[str, ...]:
        """Return the computations that it calls."""
        return tuple(_CALLED.findall(self.rest))

    @property
    def target(self) -> str:
        """Return what a custom call calls, such as `__cudnn$convForward`; else an empty text."""
        return _quoted(self.rest, "custom_call_target=")

    @property
    def op_name(self) -> str:
        """Return the path of jax's functions and Flax's modules that it comes from."""
        return _quoted(self.rest, "op_name=")

    @property
    def trips(self) -> int:
        """Return how often a loop's body runs; 1 where the compiler does not know."""
        found = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', self.rest)
        return int(found[1]) if found else 1

    @property
    def estimated_cycles(self) -> int:
        """Return the cycles in XLA's own model of a TPU; 0 where it has none."""
        found = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(found[1]) if found else 0

    @property
    def labels(self) -> tuple[str, str, str] | None:
        """Return the letters of a convolution's images, kernel and result."""
        found = _LABELS.search(self.rest)
        return (found[1], found[2], found[3]) if found else None


@dataclass(frozen=True)
class Computation:
    """A named list of instructions, in the order in which they run."""

    name: str
    instructions: tuple[Instruction, ...]

    @functools.cached_property
    def by_name(self) -> dict[str, Instruction]:
        """Return the instructions by name."""
        return {each.name: each for each in self.instructions}

    @property
    def root(self) -> Instruction:
        """Return the instruction whose result is the computation's."""
        return next(each for each in reversed(self.instructions) if each.root)


@dataclass(frozen=True)
class Program:
    """All computations of a compiled program, by name, and the one where it begins."""

    computations: dict[str, Computation]
    entry: Computation


def parse(text: str) -> Program:
    """Return the program in the text of a compiled function.

    Raises:
      ValueError: the text has no computation in which a program begins.
    """
    found: dict[str, Computation] = {}
    entry, name, lines = None, None, list[Instruction]()
    for line in text.splitlines():
        if name is None:
            # The first line of a computation begins at the margin, and can be very long.
            begins = _COMPUTATION.match(line) if line.endswith("{") else None
            if begins:
                name, lines = begins[2], []
                entry = name if begins[1] else entry
        elif line == "}":
            found[name], name = Computation(name, tuple(lines)), None
        else:
            instruction = _instruction(line)
            lines += [instruction] if instruction else []
    if entry is None:
        raise ValueError("the text has no ENTRY computation: expected a compiled program's")
    return Program(found, found[entry])


def arrays(shape: str) -> tuple[Array, ...]:
    """Return the arrays of a shape such as `f32[3,64]{1,0:T(8,128)S(1)}`, or of a tuple."""
    found = []
    for dtype, sides, order, tiles in _SHAPE.findall(shape):
        numbers = tuple(int(axis) for axis in order.split(",") if axis)
        lengths = tuple(int(side) for side in sides.split(",") if side)
        found.append(Array(dtype, lengths, numbers[::-1], "S(1)" in tiles))
    return tuple(found)


def image_order(array: Array, letters: str) -> str:
    """Return the order of an image's axes in memory, such as `NHWC`."""
    return "".join(_IMAGE.get(letters[axis], "?") for axis in array.order)


def kernel_order(array: Array, letters: str) -> str:
    """Return the order of a kernel's axes in memory, such as `HWIO`."""
    return "".join(_KERNEL.get(letters[axis], "?") for axis in array.order)


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(_COMMENT.sub("", line) if "/*" in line else line)
    if found is None:
        return None
    root, name, shape, opcode, rest = found.groups()
    inside, rest = _split_at_bracket(rest)
    # A constant has its value there, and a parameter its number.
    operands = (
        () if opcode in ("constant", "parameter") else tuple(re.findall(r"%([\w.-]+)", inside))
    )
    number = int(inside) if opcode == "parameter" else None
    return Instruction(name, shape, opcode, operands, rest, bool(root), number)


def _split_at_bracket(text: str) -> tuple[str, str]:
    """Return what is before and after the bracket that closes the operands."""
    depth = 1
    for position, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[:position], text[position + 1 :]
    return text, ""


def _quoted(text: str, before: str) -> str:
    _, found, rest = text.partition(f'{before}"')
    return rest.partition('"')[0] if found else ""
