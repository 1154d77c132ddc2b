"""Deleted and exchanged blocks."""

from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import create_model
from flax_resnet.errors import InputError
from flax_resnet.lab import lesion


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_every_block_is_deleted_once(tiny: dict[str, Any]) -> None:
    result = lesion.run(lesion.Settings(**tiny, depth=20, images=16, draws=2, exchanges=2))
    assert result.one.shape == (2, 1, 9)
    assert result.many.shape == (2, 1, 2, 9)
    assert result.exchanged.shape == (2, 1, 2, 2)
    assert result.first_blocks == (3, 6)
    last = result.many[..., -1]  # without any block, all draws are the same network
    np.testing.assert_array_equal(last, np.repeat(last[..., :1], 2, axis=-1))
    assert "residual-20" in lesion.finding(result)
    assert len(lesion.draw(result).axes) == 3


@pytest.mark.slow
def test_deleting_or_exchanging_zero_blocks_changes_nothing(init: Any) -> None:
    model = create_model(
        "cifar_resnet20", widths=(4, 8, 16), zero_init_last=True, in_channels=1, image_size=8
    )
    images = jax.random.normal(jax.random.key(0), (8, 8, 8, 1))
    variables = init(model, images)
    labels = model.apply(variables, images).argmax(-1)
    error = lesion.damaged_error(model, images, labels)
    assert [error(variables, np.arange(9) != gone) for gone in range(9)] == [0.0] * 9
    mixed = lesion.exchange_blocks(model, variables, np.random.default_rng(0))
    assert error(mixed, np.ones(9, bool)) == 0.0


@pytest.mark.slow
def test_an_exchange_keeps_all_blocks(init: Any) -> None:
    model = create_model("cifar_resnet20", widths=(4, 8, 16), in_channels=1, image_size=8)
    variables = init(model, np.zeros((1, 8, 8, 1), np.float32))
    mixed = lesion.exchange_blocks(model, variables, np.random.default_rng(1))
    assert jax.tree.structure(mixed) == jax.tree.structure(variables)
    before, after = (
        sorted(float(leaf.sum()) for leaf in jax.tree.leaves(v["params"]))
        for v in (variables, mixed)
    )
    assert before == after
    moved = [
        path
        for (path, a), b in zip(
            jax.tree_util.tree_leaves_with_path(variables["params"]),
            jax.tree.leaves(mixed["params"]),
            strict=True,
        )
        if not np.array_equal(a, b)
    ]
    assert len({path[:2] for path in moved}) == 2  # two blocks
    assert all(path[1].key != "0" for path in moved)  # and no stage's first


def test_too_few_layers_to_exchange_are_an_error(tiny: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="depth is 14; expected at least 20"):
        lesion.run(lesion.Settings(**tiny, depth=14))
