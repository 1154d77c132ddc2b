"""Networks by name: patterns, arguments that override those of a row, and errors."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import pytest

from flax_resnet import DenseNet, InputError, ResNet, create_model, list_models
from flax_resnet.models.variants import VARIANTS


def test_names_are_sorted_and_selected_by_shell_patterns() -> None:
    assert list_models() == sorted(VARIANTS)
    assert list_models("resnet??") == ["resnet18", "resnet26", "resnet34", "resnet50"]
    assert list_models("cifar_*20") == ["cifar_resnet20"]
    assert list_models("res2ne[x]t*") == ["res2next50"]
    assert list_models("nothing") == []


def test_arguments_replace_those_of_the_row() -> None:
    model = create_model("cifar_resnet20", num_classes=7, shortcut="none", in_channels=1)
    assert (model.num_classes, model.shortcut, model.in_channels) == (7, "none", 1)
    assert (model.widths, model.head_name) == ((16, 32, 64), "linear")
    assert VARIANTS["cifar_resnet20"]["num_classes"] == 10  # the table itself is untouched


def test_dense_networks_are_created_by_the_same_function() -> None:
    assert isinstance(create_model("resnet18"), ResNet)
    assert isinstance(create_model("densenet121", growth_rate=8), DenseNet)
    assert create_model("densenet121", growth_rate=8).growth_rate == 8
    with pytest.raises(InputError, match="argument of densenet121 is 'widths'"):
        create_model("densenet121", widths=(1, 2, 3, 4))


@pytest.mark.parametrize("dtype", ["bfloat16", jnp.bfloat16, jnp.dtype("bfloat16")])
def test_a_dtype_can_be_a_name_or_a_dtype(dtype: Any) -> None:
    assert create_model("resnet18", dtype=dtype) == create_model("resnet18", dtype="bfloat16")


@pytest.mark.parametrize(
    ("found", "near"),
    [("resnet5O", "resnet50"), ("ResNet18", "resnet18"), ("cifar_resnet21", "cifar_resnet20")],
)
def test_an_unknown_model_is_an_error_that_lists_similar_ones(found: str, near: str) -> None:
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
def test_an_unknown_argument_is_an_error_that_lists_similar_ones(found: str, near: str) -> None:
    with pytest.raises(InputError, match=f"argument of resnet18 is '{found}'.*'{near}'"):
        create_model("resnet18", **{found: 3})


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [
        ("block", "basics", "basic"),
        ("order", "prae", "pre"),
        ("middle", "scale", "scales"),
        ("shortcut", "project", "projection"),
        ("gate", "eac", "eca"),
        ("anti_alias", "averages", "average"),
        ("stem", "7x8", "7x7"),
        ("stem_pool", "max_zero", "max_zeros"),
        ("norm", "bacth", "batch"),
        ("activation", "rellu", "relu"),
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


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [("stem", "7x8", "7x7"), ("norm", "bacth", "batch"), ("activation", "rellu", "relu")],
)
def test_an_unknown_choice_of_a_dense_network_is_an_error_too(
    field: str, found: str, near: str
) -> None:
    with pytest.raises(InputError, match=f"^{field} is '{found}'.*{near}"):
        create_model("densenet121", **{field: found})


@pytest.mark.parametrize("field", ["stem", "norm", "shortcut"])
def test_a_choice_without_a_default_of_none_cannot_be_none(field: str) -> None:
    assert create_model("resnet18", stem_pool=None).stem_pool is None
    with pytest.raises(InputError, match=f"^{field} is None"):
        create_model("resnet18", **{field: None})


@pytest.mark.parametrize("compression", [0.0, -0.5, 1.5])
def test_a_compression_outside_of_0_to_1_is_an_error(compression: float) -> None:
    with pytest.raises(InputError, match=f"^compression is {compression}.*at most 1"):
        create_model("densenet121", compression=compression)


@pytest.mark.parametrize(
    "arguments",
    [dict(stage_sizes=(2, 2)), dict(widths=(64, 128)), dict(block=("basic", "bottleneck"))],
)
def test_stages_need_one_size_width_and_block_each(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"stage_sizes is .* widths is .*each stage"):
        create_model("resnet18", **arguments)


def test_stages_can_have_blocks_of_different_shapes() -> None:
    assert create_model("test_resnet").shapes == ("basic", "basic", "bottleneck", "basic")
    assert create_model("resnet18").shapes == ("basic",) * 4


def test_fields_of_linen_are_not_arguments() -> None:
    with pytest.raises(InputError, match="argument of resnet18 is 'parent'"):
        create_model("resnet18", parent=None)
