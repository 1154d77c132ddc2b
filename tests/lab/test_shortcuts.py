"""Every kind of shortcut as an experiment."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.errors import InputError
from flax_resnet.lab import shortcuts


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_chosen_kinds_are_compared(tiny: dict[str, Any]) -> None:
    settings = shortcuts.Settings(**tiny, depth=8, images=8, kinds=("gated", "pre-activation"))
    result = shortcuts.run(settings)
    assert result.test_error.shape == (2, 1, 1)
    assert result.flow.shape == (2, 1, 3)
    assert np.all(result.flow > 0)
    assert "gated" in shortcuts.finding(result)
    assert [text.get_text() for text in shortcuts.draw(result).axes[0].get_yticklabels()] == [
        "gated",
        "pre-activation",
    ]


def test_the_finding_starts_with_the_best() -> None:
    errors = np.array([[[0.5]], [[0.25]]])
    flow = np.array([[[4.0, 2.0]], [[3.0, 1.0]]])
    result = shortcuts.Result("digits", 8, ("none", "gated"), errors, errors, flow)
    assert shortcuts.finding(result) == (
        "Test error after 1 epochs of 8 layers on digits (1 seed): gated 25.0%, none 50.0%. "
        "Gradient norm at the first block's output over that at the last block's, before training: "
        "gated 3, none 2."
    )


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(InputError, match="Did you mean 'gated'"):
        shortcuts.Settings(kinds=("gatd",))
