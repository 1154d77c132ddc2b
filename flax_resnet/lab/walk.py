"""Walk: the claims of introductions to residual learning, checked by computing them.

The claims are taken from quizzes, code and explanations, and computed with this library's layers
and blocks. Claims that turn out wrong are kept and marked. Shapes are written in the order of
torch: (n, c, h, w).
"""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from flax_resnet.lab.experiment import Track, silent
from flax_resnet.lab.style import COLORS, new_figure
from flax_resnet.models.blocks import Block
from flax_resnet.models.design import Design, Layers
from flax_resnet.models.layers import Conv


@dataclass(frozen=True)
class Settings:
    """The size of the examples."""

    blocks: int = 10
    """Blocks of the network whose paths are counted."""


SIZES = {"small": Settings(), "paper": Settings()}  # nothing is trained


COLUMNS = {"claim": 0.0, "expected": 0.5, "computed here": 0.74}
WRAP = (70, 28, 28)

IDENTITY = Block("basic", 64, 1, Design(), Layers())
PROJECTION = Block("basic", 128, 2, Design(), Layers())


class Step(NamedTuple):
    """A claim, the value that it predicts, and the computed value."""

    claim: str
    expected: str
    printed: str


@dataclass(frozen=True)
class Result:
    """Each claim with its values; `ok` where the computed value is the expected one."""

    names: tuple[str, ...]
    claims: tuple[str, ...]
    expected: tuple[str, ...]
    printed: tuple[str, ...]
    ok: np.ndarray


def sum_of_ones(settings: Settings) -> Step:
    """Apply a convolution with kernel 0 and bias 1 and a ReLU to ones, and add the ones."""
    x = jnp.ones((1, 5, 5, 3))
    printed = str(float((jax.nn.relu(_constant_convolution(x)) + x)[0, 0, 0, 0]))
    return Step("kernel 0, bias 1, ReLU, plus an input of ones prints 2.0", "2.0", printed)


def reason_of_the_sum(settings: Settings) -> Step:
    """Apply the same convolution to inputs other than ones."""
    x = jnp.ones((1, 5, 5, 3))
    values = [float(_constant_convolution(sign * x)[0, 0, 0, 0]) for sign in (1, -1)]
    printed = "input decides" if values[0] != values[1] else f"{values[0]} for 1 and for -1"
    claim = "... because the convolution of an input of ones is positive"
    return Step(claim, "input decides", printed)


def mismatch(settings: Settings) -> Step:
    """Add 64 channels to 128; find which number the error names first, here as in torch."""
    x, printed = jnp.ones((1, 32, 32, 64)), "no error"
    try:
        jnp.add(_apply(Conv(128, 3), x), x)
    except TypeError as error:
        first = "64" if str(error).index("64)") < str(error).index("128)") else "128"
        printed = f"an error, {first} first"
    claim = "after a convolution from 64 to 128, out + x is an error that names 64 first"
    return Step(claim, "an error, 64 first", printed)


def projection(settings: Settings) -> Step:
    """Project the input, then add."""
    x = jnp.ones((1, 32, 32, 64))
    out = _apply(Conv(128, 3), x) + _apply(Conv(128, 1), x)
    printed = _torch_shape(out.shape)
    return Step("a 1x1 convolution of the input fixes it", "(1, 128, 32, 32)", printed)


def strided_shortcut(settings: Settings) -> Step:
    """Halve the size and double the channels with a 1x1 convolution of stride 2."""
    claim = "a 1x1 shortcut of stride 2 maps (1, 64, 32, 32) to 128 channels"
    return Step(claim, "(1, 128, 16, 16)", _shapes(Conv(128, 1, stride=2))[0])


def two_blocks(settings: Settings) -> Step:
    """Apply an identity block and a projection block."""
    claim = "an identity block keeps the shape, a projection block changes it"
    printed = f"{_shapes(IDENTITY)[0]}, {_shapes(PROJECTION)[0]}"
    return Step(claim, "(1, 64, 32, 32), (1, 128, 16, 16)", printed)


def free_shortcut(settings: Settings) -> Step:
    """Count the parameters of both kinds of shortcut."""
    trees = (_shapes(block)[1].get("downsample", {}) for block in (IDENTITY, PROJECTION))
    counts = [sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)) for tree in trees]
    claim = "identity shortcuts have no parameters, projections 64 x 128 and a norm"
    return Step(claim, "0, 8448", f"{counts[0]}, {counts[1]}")


def vanishing(settings: Settings) -> Step:
    """Differentiate through 20 and 50 layers."""
    claim = "20 layers of factor 0.8 leave 0.012 of the gradient, 50 leave 0.00001"
    found = [_chain_gradient(0.8, layers, skip=False) for layers in (20, 50)]
    return Step(claim, "0.012, 0.00001", f"{found[0]:.3f}, {found[1]:.5f}")


def gradient_highway(settings: Settings) -> Step:
    """Differentiate through 50 layers of factor 0, each with a shortcut."""
    claim = "with shortcuts 50 layers of factor 0 leave all of it: the product of (1 + 0)"
    return Step(claim, "1.0", str(_chain_gradient(0.0, 50, skip=True)))


def blocked_highway(settings: Settings) -> Step:
    """Differentiate through one layer that cancels its shortcut."""
    gradient = _chain_gradient(-1.0, 1, skip=True)
    claim = "even where F' = -1 a shortcut's gradient cannot be blocked"
    return Step(claim, "not 0.0", "not 0.0" if gradient else str(gradient))


def identity_block(settings: Settings) -> Step:
    """Set all kernels of a block to zero, and apply it to nonnegative inputs."""
    return Step("a block of zeros changes the output of a ReLU by 0", "0.0", _change_by_zeros(0))


def identity_of_anything(settings: Settings) -> Step:
    """Apply the same block to negative numbers too, which its last ReLU removes."""
    claim = "... and any other input: it computes ReLU(F(x) + x), and F(x) = 0"
    return Step(claim, "0.0", _change_by_zeros(-1))


def quiet_start(settings: Settings) -> Step:
    """Compare the branch and the input of an untrained block in training mode."""
    x = jax.random.normal(jax.random.key(1), (8, 16, 16, 16))
    design, layers = (
        Design(shortcut="none", order="post"),
        Layers(train=True, activation="identity"),
    )
    block = Block("basic", 16, 1, design, layers)
    variables = block.init(jax.random.key(0), x)
    branch, _ = block.apply(variables, x, mutable=["batch_stats"])
    ratio = float(jnp.std(branch) / jnp.std(x))
    claim = "random weights make F(x) small relative to x (with batch norm, at the start)"
    return Step(claim, "below 0.1", "below 0.1" if ratio < 0.1 else f"F(x) is {ratio:.1f} x")


def paths(settings: Settings) -> Step:
    """Add up the paths through a network, each of which contributes 1."""
    count, x = settings.blocks, jnp.ones((1, 1, 1, 1))
    for _ in range(count):
        x = x + _scaled(x, 1.0)
    return Step(f"{count} blocks have 2^{count} paths", str(2**count), str(int(x[0, 0, 0, 0])))


STEPS: tuple[Callable[[Settings], Step], ...] = (
    sum_of_ones,
    reason_of_the_sum,
    mismatch,
    projection,
    strided_shortcut,
    two_blocks,
    free_shortcut,
    vanishing,
    gradient_highway,
    blocked_highway,
    identity_block,
    identity_of_anything,
    quiet_start,
    paths,
)


def run(settings: Settings, track: Track = silent) -> Result:
    """Compute every claim."""
    steps = [step(settings) for step in track(STEPS, "steps")]
    claims, expected, printed = zip(*steps, strict=True)
    names = tuple(step.__name__.replace("_", " ") for step in STEPS)
    return Result(names, claims, expected, printed, np.array(expected) == np.array(printed))


def finding(result: Result) -> str:
    """Count the claims that are right, and name the others with what is so instead."""
    rows = zip(result.names, result.printed, result.ok, strict=True)
    others = "; ".join(f"{name} ({printed})" for name, printed, ok in rows if not ok)
    right = f"Of {len(result.ok)} claims in introductory texts, {result.ok.sum()} are right"
    if not others:
        return f"{right}."
    wrong = len(result.ok) - int(result.ok.sum())
    return f"{right} and {wrong} are misconceptions of the texts, with what is so: {others}."


def _apply(module: Any, x: jax.Array) -> jax.Array:
    return jnp.asarray(module.apply(module.init(jax.random.key(0), x), x))


def _constant_convolution(x: jax.Array) -> jax.Array:
    zeros, ones = jax.nn.initializers.zeros, jax.nn.initializers.ones
    return _apply(Conv(x.shape[-1], 3, use_bias=True, kernel_init=zeros, bias_init=ones), x)


def _scaled(x: jax.Array, factor: float) -> jax.Array:
    """Apply a 1x1 convolution of one channel with weight `factor`."""
    conv = Conv(1, 1)
    return jnp.asarray(conv.apply({"params": {"kernel": jnp.full((1, 1, 1, 1), factor)}}, x))


def _chain_gradient(factor: float, layers: int, skip: bool) -> float:
    """Return the gradient through `layers` scalings, each with or without a shortcut."""

    def chain(x: jax.Array) -> jax.Array:
        for _ in range(layers):
            x = _scaled(x, factor) + (x if skip else 0)
        return x.sum()

    return float(jax.grad(chain)(jnp.ones((1, 1, 1, 1)))[0, 0, 0, 0])


def _change_by_zeros(lowest: float) -> str:
    """Return how much a block of zero kernels changes inputs from `lowest` to 1, at most."""
    x = jnp.linspace(lowest, 1, 5 * 5 * 8).reshape(1, 5, 5, 8)
    block = Block("basic", 8, 1, Design(), Layers())
    variables = dict(block.init(jax.random.key(0), x))
    variables["params"] = jax.tree.map(jnp.zeros_like, variables["params"])
    return str(float(abs(jnp.asarray(block.apply(variables, x)) - x).max()))


def _torch_shape(shape: tuple[int, ...]) -> str:
    n, h, w, c = shape
    return str((n, c, h, w))


def _shapes(module: Any) -> tuple[str, Any]:
    """Return the output's shape for 64 channels of 32 x 32 pixels, and the parameters' shapes."""
    x = jnp.ones((1, 32, 32, 64))
    out, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), x)
    return _torch_shape(out.shape), variables["params"]


def draw(result: Result) -> Figure:
    """Draw a table with a row for each claim; those that do not hold are colored."""
    count = len(result.names)
    figure, axes = new_figure(width=10, height=0.42 * (count + 2))
    panel = axes[0, 0]
    panel.set(xlim=(0, 1), ylim=(count, -1))
    panel.axis("off")
    for title, x in COLUMNS.items():
        panel.text(x, -0.6, title, weight="bold", va="center")
    rows = zip(result.claims, result.expected, result.printed, result.ok, strict=True)
    for line, (*words, ok) in enumerate(rows):
        panel.axhline(line - 0.1, color="lightgrey", linewidth=0.6)
        color = "black" if ok else COLORS[1]
        for text, x, width in zip(words, COLUMNS.values(), WRAP, strict=True):
            wrapped = textwrap.fill(text, width)
            panel.text(x, line + 0.4, wrapped, va="center", color=color, parse_math=False)
    right = int(result.ok.sum())
    panel.set_title(
        f"Claims of introductory texts: {right} of {count} are right (misconceptions in color)"
    )
    return figure
