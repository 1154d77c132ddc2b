"""A Linen network as an NNX module, and back."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx, traverse_util
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.variables import example_images, variable_shapes


class NNXNetwork(nnx.Module):
    """A network whose parameters and batch statistics are `nnx.Param` and `nnx.BatchStat`.

    It computes what its Linen network does, bit for bit. `network.train()` and `network.eval()`
    switch between training, which updates the batch statistics, and inference, with which it
    begins.

    Attributes:
      linen: the Linen network.
      params, batch_stats: `nnx.Variable`s in dictionaries, under the names of the Linen network.
    """

    def __init__(self, linen: nn.Module, variables: Mapping[str, Any], rngs: nnx.Rngs | None):
        """Take the variables of a Linen network; `rngs` has a stream for dropout."""
        self.linen = linen
        self.params = nnx.data(jax.tree.map(_variable(nnx.Param), variables["params"]))
        stats = variables.get("batch_stats", {})
        self.batch_stats = nnx.data(jax.tree.map(_variable(nnx.BatchStat), stats))
        self.rngs = nnx.data(rngs)
        self.deterministic = True

    def __call__(self, images: Float[Array, "n h w c"], method: str | None = None) -> Any:
        """Return the logits of images, or what another method such as `features` returns."""
        variables, train = self.variables(), not self.deterministic
        if not train:
            return self.linen.apply(variables, images, train=False, method=method)
        streams = {} if self.rngs is None else {"dropout": self.rngs.dropout()}
        found, updates = self.linen.apply(
            variables, images, train=True, method=method, mutable=["batch_stats"], rngs=streams
        )
        jax.tree.map(
            _assign, self.batch_stats, updates.get("batch_stats", {}), is_leaf=_is_variable
        )
        return found

    def features(self, images: Float[Array, "n h w c"]) -> Any:
        """Return the maps of every stage, as the Linen network's `features`."""
        return self(images, method="features")

    def variables(self) -> dict[str, Any]:
        """Return `{"params": ..., "batch_stats": ...}` for the Linen network, exactly."""
        trees = {"params": self.params, "batch_stats": self.batch_stats}
        return {
            name: jax.tree.map(lambda leaf: leaf.get_value(), tree, is_leaf=_is_variable)
            for name, tree in trees.items()
        }


def to_nnx(
    model: nn.Module,
    variables: Mapping[str, Any] | None = None,
    *,
    rngs: nnx.Rngs | None = None,
    seed: int = 0,
) -> NNXNetwork:
    """Return a network as an NNX module that trains, updates its batch statistics and is saved.

    `nnx.Optimizer`, `nnx.value_and_grad(..., argnums=nnx.DiffState(0, nnx.Param))`, `nnx.jit`,
    `nnx.split` and `nnx.state` take it like any other.

    Args:
      model: what `create_model` or `load_pretrained` returns, or a Linen network of your own that
        is called as `model(images, train=...)`.
      variables: its variables; default: new ones, from `seed`.
      rngs: random numbers for dropout in training, with a stream `dropout`, or a default one.

    Raises:
      InputError: the variables do not fit the model.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is a {type(model).__name__}; expected a Linen network")
    if variables is None:
        images = jnp.zeros(example_images(model).shape)
        variables = jax.jit(model.init)(jax.random.key(seed), images)
    _check_fit(model, variables)
    return NNXNetwork(model, variables, rngs)


def _check_fit(model: nn.Module, variables: Mapping[str, Any]) -> None:
    expected = _shapes(variable_shapes(model))
    found = _shapes(variables)
    wrong = sorted(
        name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)
    )
    if wrong:
        raise InputError(
            f"the variables do not fit the model: {len(wrong)} differ, such as {wrong[0]}, which "
            f"is {found.get(wrong[0], 'missing')} and expected {expected.get(wrong[0], 'nowhere')}"
        )


def _shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    leaves = traverse_util.flatten_dict(dict(variables), sep="/")
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}


def _variable(kind: Any) -> Any:
    # A copy: NNX updates variables in place, and the step of a Linen run may donate its own.
    return lambda leaf: kind(jnp.array(leaf))


def _is_variable(value: Any) -> bool:
    return isinstance(value, nnx.Variable)


def _assign(variable: nnx.Variable, value: jax.Array) -> None:
    variable.set_value(value)
