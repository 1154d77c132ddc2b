"""The table of networks; every test runs over its rows, so a new row is tested by being there."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, create_model, list_models
from flax_resnet.models.variants import VARIANTS

every_model = pytest.mark.parametrize("name", list_models())
both_dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def small(name: str, dtype: str) -> Any:
    """Make a thin network of two stages of one block: every kind of layer, soon compiled."""
    widths = tuple(width // 8 for width in create_model(name).widths[:2])
    return create_model(name, stage_sizes=(1,) * len(widths), widths=widths, dtype=dtype)


def example(model: Any, batch: int) -> jax.ShapeDtypeStruct:
    """Give the shape of a small batch; a flattening head needs its own size."""
    size = model.image_size if model.pool == "flatten" else 16
    return jax.ShapeDtypeStruct((batch, size, size, model.in_channels), jnp.float32)


def loss_and_logits(model: Any, variables: Any, images: Any) -> Any:
    """Return ((loss, (logits, new statistics)), gradients) of one training step."""

    def loss(params: Any) -> Any:
        logits, new = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return (logits**2).mean(), (logits, new)

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


# Equal modules share one compilation: most rows are one network, but for the depth.
first_step = jax.jit(loss_and_logits, static_argnums=0)


def random_variables(model: Any, images: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(-0.1, 0.3, leaf.shape).astype(leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), images),
    )


@every_model
@both_dtypes
def test_every_model_computes_finite_logits_and_gradients(name: str, dtype: str) -> None:
    model = small(name, dtype)
    shape = example(model, 4).shape
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    variables = random_variables(model, images)
    (loss, (logits, _)), gradients = first_step(model, variables, images)
    assert logits.shape == (4, model.num_classes)
    assert logits.dtype == loss.dtype == jnp.float32
    assert jnp.isfinite(logits).all()
    for leaf in map(np.asarray, jax.tree.leaves(gradients)):
        assert np.isfinite(leaf).all()
        assert leaf.any()


@pytest.mark.slow
@every_model
@both_dtypes
def test_every_model_traces_forwards_and_backwards_at_full_depth(name: str, dtype: str) -> None:
    model = create_model(name, dtype=dtype)
    images = example(model, 2)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    step = functools.partial(loss_and_logits, model)
    (_, (logits, new)), gradients = jax.eval_shape(step, variables, images)
    assert (logits.shape, logits.dtype) == ((2, model.num_classes), jnp.float32)
    assert gradients == variables["params"]
    assert new.get("batch_stats") == variables.get("batch_stats")


@every_model
def test_every_model_has_float32_variables(name: str) -> None:
    model = small(name, "bfloat16")
    variables = jax.eval_shape(model.init, jax.random.key(0), example(model, 1))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_names_are_sorted_and_selected_by_shell_patterns() -> None:
    assert list_models() == sorted(VARIANTS)
    assert list_models("resnet*") == [
        "resnet101", "resnet152", "resnet18", "resnet34", "resnet50"
    ]  # fmt: skip
    assert list_models("*20") == ["cifar_resnet20"]
    assert list_models("nothing") == []


def test_arguments_replace_those_of_the_row() -> None:
    model = create_model("cifar_resnet20", num_classes=7, shortcut="none", in_channels=1)
    assert (model.num_classes, model.shortcut, model.in_channels) == (7, "none", 1)
    assert (model.widths, model.head_name) == ((16, 32, 64), "linear")
    assert VARIANTS["cifar_resnet20"]["num_classes"] == 10  # the table itself is untouched


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_a_dtype_may_be_a_name_or_a_dtype(dtype: Any) -> None:
    assert create_model("resnet18", dtype=dtype) == create_model("resnet18", dtype="bfloat16")


@pytest.mark.parametrize(
    ("found", "near"),
    [("resnet5O", "resnet50"), ("ResNet18", "resnet18"), ("cifar_resnet21", "cifar_resnet20")],
)
def test_an_unknown_model_is_an_error_that_lists_the_near_ones(found: str, near: str) -> None:
    with pytest.raises(InputError, match=f"model is '{found}'.*Did you mean .*'{near}'"):
        create_model(found)


@pytest.mark.parametrize(
    ("found", "near"),
    [
        ("num_class", "num_classes"),
        ("stage_size", "stage_sizes"),
        ("input_channels", "in_channels"),
    ],
)
def test_an_unknown_argument_is_an_error_that_lists_the_near_ones(found: str, near: str) -> None:
    with pytest.raises(InputError, match=f"argument of resnet18 is '{found}'.*'{near}'"):
        create_model("resnet18", **{found: 3})


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [
        ("block", "basics", "basic"),
        ("stem", "imagnet", "imagenet"),
        ("shortcut", "project", "projection"),
        ("norm", "bacth", "batch"),
        ("pool", "avg", "average"),
        ("dtype", "bfloat61", "bfloat16"),
        ("dtype", "int8", "float16"),
    ],
)
def test_an_unknown_choice_is_an_error_that_lists_the_others(
    field: str, found: str, near: str
) -> None:
    with pytest.raises(InputError, match=f"^{field} is '{found}'.*{near}"):
        create_model("resnet18", **{field: found})


def test_linens_own_fields_are_no_arguments() -> None:
    with pytest.raises(InputError, match="argument of resnet18 is 'parent'"):
        create_model("resnet18", parent=None)
