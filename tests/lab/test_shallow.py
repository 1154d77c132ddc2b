"""Depth from four layers up: errors of every kind and depth, and the sentence about them."""

from typing import Any

import numpy as np
import pytest

from flax_resnet.errors import InputError
from flax_resnet.lab import shallow
from flax_resnet.lab.networks import even_network
from flax_resnet.models import count_parameters


@pytest.mark.usefixtures("trained")
def test_every_network_has_errors_and_a_cost(tiny: dict[str, Any]) -> None:
    result = shallow.run(shallow.Settings(depths=(4,), width=4, **tiny))
    assert result.train_error.shape == result.test_error.shape == (2, 1, 1)
    figure = shallow.draw(result)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["plain", "residual", "training"]


def test_only_the_number_of_equal_blocks_grows_with_depth() -> None:
    settings = shallow.Settings()
    sizes = [
        count_parameters(even_network(settings, depth, "zero_pad", 16)) for depth in (4, 6, 10)
    ]
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    with pytest.raises(InputError, match=r"depth is 5; expected 2 n \+ 2 layers"):
        even_network(settings, 5, "none", 16)


def test_the_finding_names_every_depth_and_the_best_one() -> None:
    errors = np.array([[[0.1], [0.2]], [[0.1], [0.05]]])
    kinds, macs = ("plain", "residual"), np.array([1e6, 3e6])
    result = shallow.Result("digits", kinds, (4, 10), errors, errors, macs)
    assert shallow.finding(result) == (
        "Test error on digits (1 seed): 4 layers 10.0% without and 10.0% with shortcuts, 10 layers "
        "20.0% without and 5.0% with shortcuts; the best residual network has 10 layers and 3.0 "
        "times the multiply-adds of the shallowest."
    )
