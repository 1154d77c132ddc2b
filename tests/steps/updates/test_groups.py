"""Which parameters a rule reaches: by name, in every family."""

from typing import Any

import jax
import pytest

from flax_resnet.models import create_model, variable_shapes
from flax_resnet.steps.updates.groups import decay_mask, depths, matrix_mask


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


def test_kernels_outside_of_the_head_are_matrices() -> None:
    found = matrix_mask(params_of("seresnet50"))
    assert found["conv1"]["kernel"] and found["layer1"]["0"]["conv2"]["kernel"]
    assert found["layer1"]["0"]["se"]["fc1"] == {"kernel": True, "bias": False}
    assert found["fc"] == {"kernel": False, "bias": False}
    assert not any(found["bn1"].values())


def test_a_kernel_that_all_channels_share_is_no_matrix() -> None:
    for arguments in ({}, {"scan_blocks": True}):
        params = params_of("ecaresnet50d", **arguments)
        found = jax.tree_util.tree_leaves_with_path(matrix_mask(params))
        marks = {
            jax.tree_util.keystr(path, simple=True, separator="."): mark for path, mark in found
        }
        gates = {key: mark for key, mark in marks.items() if ".se." in key}
        assert len(gates) >= 4 and not any(gates.values())
        assert all(mark for key, mark in marks.items() if key.endswith("conv2.kernel"))
