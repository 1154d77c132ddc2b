"""Which parameters a rule reaches: by name, in every family."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from flax_resnet.models import create_model, variable_shapes
from flax_resnet.training.updates.masks import decay_mask, depths, matrix_axes


def params_of(name: str, **arguments: Any) -> Any:
    return variable_shapes(create_model(name, **arguments))["params"]


@pytest.mark.parametrize(
    ("name", "decayed", "tensors", "left", "of"),
    [("resnet18", 11_678_912, 21, 10_600, 62), ("resnet50", 25_502_912, 54, 54_120, 161)],
)
def test_the_mask_counts_what_published_recipes_decay(
    name: str, decayed: int, tensors: int, left: int, of: int
) -> None:
    params = params_of(name)
    mask = decay_mask(params)
    sizes = jax.tree.map(lambda leaf, kept: leaf.size if kept else 0, params, mask)
    assert sum(jax.tree.leaves(sizes)) == decayed
    assert sum(jax.tree.leaves(mask)) == tensors
    assert len(jax.tree.leaves(mask)) == of
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) - decayed == left


def test_parts_are_counted_from_the_output() -> None:
    found = depths(params_of("resnet18"))
    assert found["fc"]["bias"] == 0
    assert found["layer4"]["1"]["conv2"]["kernel"] == 1
    assert found["layer1"]["0"]["bn1"]["scale"] == 4
    assert found["conv1"]["kernel"] == found["bn1"]["bias"] == 5


@pytest.mark.parametrize("name", ["densenet121", "resnetv2_50", "cifar_resnet20", "unet"])
def test_every_family_has_depths_without_a_gap(name: str) -> None:
    found = set(jax.tree.leaves(depths(params_of(name))))
    assert found == set(range(max(found) + 1))
    assert max(found) >= 4


def test_kernels_are_matrices_of_inputs_by_outputs() -> None:
    tree = {
        "layer1": {"conv": {"kernel": jnp.ones((3, 3, 4, 5)), "bias": jnp.ones(5)}},
        "layer2": {
            "conv": {"kernel": jnp.ones((7, 3, 3, 4, 5))},
            "fc": {"kernel": jnp.ones((2, 3))},
        },
        "fc": {"kernel": jnp.ones((2, 3))},
    }
    found = matrix_axes(tree)
    assert found["layer1"]["conv"] == {"kernel": ((0, 1, 2), (3,)), "bias": None}
    assert found["layer2"]["conv"]["kernel"] == ((1, 2, 3), (4,))
    assert found["layer2"]["fc"]["kernel"] == ((0,), (1,))
    assert found["fc"]["kernel"] is None
