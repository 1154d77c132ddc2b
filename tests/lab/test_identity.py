"""The distance of blocks from the identity."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.lab import identity


@pytest.mark.slow
def test_zero_blocks_are_the_identity_and_may_be_added_anywhere(
    tiny: dict[str, Any], trained: bool
) -> None:
    result = identity.run(identity.Settings(**tiny, depth=14 if trained else 8, images=8, added=1))
    ones, zeros = result.distance[:, 0]
    assert np.all(ones[0] > 0.1)
    same = [block for block in range(len(zeros[0])) if block not in result.first_blocks]
    np.testing.assert_array_equal(zeros[0][same], 0.0)  # before training, exactly
    assert np.all((zeros[-1][same] > 0) == trained)  # training moves every one
    assert result.moved["zero blocks behind"] < 1e-6
    assert result.moved["zero blocks before"] < 1e-6
    assert result.moved["random blocks behind"] > 1e-3
    assert "3 added zero blocks" in identity.finding(result)
    assert len(identity.draw(result).axes) == 3
