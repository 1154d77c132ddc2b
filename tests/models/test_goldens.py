"""Outputs of the published models with the same weights, in float64 and float32.

In float64 a bound of 1e-10 shows that the formulas are the same. (timm computes the squares of FRN
and EvoNorm-S0 in float32 for all dtypes, so there the bound is its own float32 error.) In float32,
inference may have ten times the error of torch itself. Training is ill-conditioned for a deep
bottleneck network and two images: the last stage normalizes over 18 values per channel, channels
with hardly any variance are divided by almost zero, and dozens of layers amplify rounding errors.
The float32 gradients of torch differ from its float64 ones as much as ours (measured: 4e-3 for
ResNet-50, 1.3e-2 for ResNet-101; a two-pass variance does not help), so the float32 bounds below
are a few times these numbers; a single rectifier whose input rounds to the other side of zero
changes a gradient by 1e-4. These bounds detect a wrong precision, not a wrong formula.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import DenseNet, ResNet, create_model, from_torch, to_torch
from flax_resnet.models import UNet
from flax_resnet.models.resnet import CHOICES
from tools.parity import channels_last, loss_of, make_labels

GOLDENS = Path(__file__).parents[1] / "goldens"
# Names of our models, and of their goldens. Every golden of a network is tested.
SOURCE = {
    path.stem.replace("cifar.", "cifar_").split(".")[-1]: path.stem
    for path in sorted(GOLDENS.glob("*.*.json"))
}
# The tests compile with little optimization to save time. Tests of rounding, and long ones, use the
# default.
AS_SHIPPED = {"xla_backend_optimization_level": 3}
# The largest relative error of training-mode logits and of gradient norms in float32.
FLOAT32_TRAINING = {
    "resnet18": (2e-5, 2e-5),
    "resnet34": (5e-5, 5e-4),
    "resnet50": (3e-4, 2e-2),
    "resnet101": (1e-3, 1e-1),
    "cifar_resnet20": (5e-6, 1e-5),
    "cifar_resnet56": (1e-5, 1e-4),
    "cifar_resnet110": (1e-4, 1e-3),
}

# The largest relative error of logits and of gradient norms, for networks whose float64 step is
# ill-conditioned too. In an attention, batch norm sees one value per image: with two images it
# divides by their difference. Changing images by 1e-15 changes the logits by 3e-9, 6e-6 and 1e-9.
FLOAT64_TRAINING = {
    "resnest50d": (1e-8, 1e-6),
    "resnest50d_4s2x40d": (2e-5, 1e-3),
    "skresnext50_32x4d": (1e-8, 1e-6),
    "resnetv2_50d_frn": (7e-6, 1e-2),
    "resnetv2_50d_evos": (6e-7, 1e-6),
}
IN_FLOAT32 = ("frn", "evonorm_s0")  # norms


def _cases(*quick: str, slow: Iterable[str] = (), names: Iterable[str] = SOURCE) -> Any:
    """Parametrize over the names; those that are neither `quick` nor `slow` are exhaustive."""
    marks = dict.fromkeys(quick, ()) | dict.fromkeys(slow, (pytest.mark.slow,))
    cases = [pytest.param(name, marks=marks.get(name, (pytest.mark.exhaustive,))) for name in names]
    return pytest.mark.parametrize("name", cases)


class Step(NamedTuple):
    """One training step without an update, in torch's names and axes."""

    logits: np.ndarray
    loss: float
    grad_norm: dict[str, float]
    running: dict[str, tuple[float, float]]


def _load(golden: Any, name: str, dtype: str) -> tuple[Any, Any, jax.Array]:
    model = create_model(name, dtype=dtype)
    variables = from_torch(model, golden.state_dict())
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
    return model, variables, jnp.asarray(golden.images(), dtype)


def _inference_error(golden: Any, name: str, dtype: str) -> float:
    """Return the largest error of the logits in inference mode."""
    with jax.enable_x64(dtype == "float64"):
        model, variables, images = _load(golden, name, dtype)
        options = AS_SHIPPED if dtype == "float32" else None
        logits = jax.jit(model.apply, compiler_options=options)(variables, images)
    return _error(np.asarray(logits), channels_last(golden.logits))


def _step(golden: Any, name: str, dtype: str) -> Step:
    """Take one training step."""
    with jax.enable_x64(dtype == "float64"):
        return _computed_step(golden, name, dtype)


def _computed_step(golden: Any, name: str, dtype: str) -> Step:
    model, variables, images = _load(golden, name, dtype)
    labels = make_labels(golden.facts, golden.logits.shape)

    @functools.partial(jax.jit, compiler_options=AS_SHIPPED)
    def step(params: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, new = model.apply(
                {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
            )
            return loss_of(logits, labels), (logits, new)

        return jax.value_and_grad(loss, has_aux=True)(params)

    (loss, (logits, new)), gradients = step(variables["params"])
    facts = to_torch(model, {"params": gradients, **new})
    wide = {key: value.astype(np.float64) for key, value in facts.items()}
    return Step(
        np.asarray(logits),
        float(loss),
        {key: float(np.linalg.norm(wide[key])) for key in golden.facts["grad_norm"]},
        {key: (wide[key].mean(), wide[key].std(ddof=1)) for key in golden.facts["running"]},
    )


def _error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _compare(step: Step, golden: Any, logits_bound: float, gradient_bound: float) -> None:
    """Compare logits, loss and gradient norms with the published ones; bounds are relative."""
    facts = golden.facts
    assert _error(step.logits, channels_last(golden.train_logits)) < logits_bound
    assert step.loss == pytest.approx(facts["train_loss"], rel=logits_bound)
    # The gradient of a bias in front of a batch norm is zero, except for rounding.
    rounding = logits_bound / 10
    assert step.grad_norm == pytest.approx(facts["grad_norm"], rel=gradient_bound, abs=rounding)


def test_the_goldens_cover_every_kind_of_block_and_norm() -> None:
    models = [create_model(name) for name in SOURCE]
    resnets = [model for model in models if isinstance(model, ResNet)]
    for field in ("order", "middle", "gate", "anti_alias", "stem"):
        published = set(CHOICES[field]) - {"act_before_add"}  # a paper's experiment
        assert {getattr(model, field) for model in resnets} == published, field
    norms = {model.norm for model in models}
    assert norms == set(CHOICES["norm"]) - {"folded", "none"}
    assert {type(model) for model in models} == {ResNet, DenseNet, UNet}


# The quick tests below include the plain network and one for small images.
@_cases(
    "resnetv2_18d",
    slow=("resnest14d", "skresnet18", "res2net50_26w_4s", "densenet121", "unet"),
)
def test_float64_logits_equal_the_published_ones(name: str, golden: Any) -> None:
    expected = golden(SOURCE[name])
    rounded = create_model(name).norm in IN_FLOAT32
    bound = expected.facts["float32_vs_float64"] if rounded else 1e-10
    assert _inference_error(expected, name, "float64") < bound


@_cases("resnet18")
def test_float32_logits_are_as_exact_as_torchs(name: str, golden: Any) -> None:
    """Small divisors and standardized kernels have ten times the rounding error."""
    bound = 10 * golden(SOURCE[name]).facts["float32_vs_float64"]
    assert bound < (1e-5 if create_model(name).norm == "batch" else 1e-4)
    assert _inference_error(golden(SOURCE[name]), name, "float32") < bound


@_cases("cifar_resnet20")
def test_a_float64_training_step_equals_the_published_one(name: str, golden: Any) -> None:
    expected = golden(SOURCE[name])
    step = _step(expected, name, "float64")
    logits_bound, gradient_bound = FLOAT64_TRAINING.get(name, (1e-10, 1e-9))
    _compare(step, expected, logits_bound, gradient_bound)
    for key, statistics in expected.facts["running"].items():
        wanted = pytest.approx(statistics, rel=logits_bound, abs=logits_bound / 100)
        assert step.running[key] == wanted, key


@_cases(names=FLOAT32_TRAINING)
def test_float32_training_is_as_exact_as_its_condition_allows(name: str, golden: Any) -> None:
    expected = golden(SOURCE[name])
    logits_bound, gradient_bound = FLOAT32_TRAINING[name]
    step = _step(expected, name, "float32")
    _compare(step, expected, logits_bound, gradient_bound)
    for key, statistics in expected.facts["running"].items():
        assert step.running[key] == pytest.approx(statistics, abs=1e-5), key
