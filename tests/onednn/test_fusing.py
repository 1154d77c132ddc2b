"""Networks whose norms, sums and activations are computed within oneDNN's convolutions."""

import collections
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flax_resnet
from flax_resnet.onednn.choice import cpu_kernels, why_unavailable

if why_unavailable():
    pytest.skip(str(why_unavailable()), allow_module_level=True)

from flax_resnet.onednn.fusing import fuse

# Networks, and the calls of oneDNN and the activations of their own that a fused program has.
NETWORKS = {
    "cifar_resnet20": (19, 0),
    "resnet18": (20, 0),
    "resnet50": (53, 0),
    "densenet121": (120, 62),  # norms and activations before convolutions stay
}


def network(name: str) -> tuple[Any, dict[str, Any], jax.Array]:
    """Return a network with norms that change something, its variables and images."""
    model = flax_resnet.create_model(name, num_classes=7)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(2, 64, 64, 3)), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)

    def value(shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if len(shape.shape) == 1:
            return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)
        fan_in = np.prod(shape.shape[:-1])
        return (rng.normal(size=shape.shape) / np.sqrt(fan_in)).astype(np.float32)

    return model, jax.tree.map(value, shapes), images


def counts(function: Any, *arguments: Any) -> tuple[int, int]:
    """Return how many convolutions and activations the traced function has."""
    names = collections.Counter(
        equation.primitive.name for equation in jax.make_jaxpr(function)(*arguments).jaxpr.eqns
    )
    return names["ffi_call"] + names["onednn_forward"], names["max"]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "cifar_resnet20",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in NETWORKS
            if name != "cifar_resnet20"
        ),
    ],
)
def test_a_fused_network_has_the_same_logits(name: str, folded: bool) -> None:
    model, variables, images = network(name)
    if folded:
        model, variables = flax_resnet.fold_batch_norm(model, variables)

    def logits(variables: Any, images: jax.Array) -> Any:
        return model.apply(variables, images, train=False)

    expected = jax.jit(logits)(variables, images)
    with cpu_kernels("onednn"):
        fused = fuse(logits)
        assert counts(fused, variables, images) == NETWORKS[name]
        found = jax.jit(fused)(variables, images)
    chex.assert_trees_all_close(found, expected, rtol=0, atol=2e-5 * float(jnp.abs(expected).max()))


def test_values_that_are_used_twice_are_computed_once() -> None:
    kernel = jnp.ones((3, 3, 4, 4))

    def function(x: jax.Array) -> Any:
        from flax_resnet.models.layers.convolution import conv2d

        y = conv2d(x, kernel)
        return jax.nn.relu(y) + y, y

    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 4)), jnp.float32)
    expected = function(x)
    with cpu_kernels("onednn"):
        assert counts(fuse(function), x)[0] == 1
        found = jax.jit(fuse(function))(x)
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)
