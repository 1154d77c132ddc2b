"""The options that make a GPU deterministic, which suffice for a training step."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flax_resnet.models import create_model
from flax_resnet.steps.mesh import compiler_options
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, make_train_step


@pytest.mark.parametrize(
    ("platform", "deterministic", "options"),
    [
        ("gpu", True, {"xla_gpu_deterministic_ops": True}),
        ("gpu", False, None),
        ("cpu", True, None),
        ("tpu", True, None),
    ],
)
def test_only_gpus_need_options(platform: str, deterministic: bool, options: Any) -> None:
    mesh = SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)]))
    assert compiler_options(mesh, deterministic) == options


def test_every_operation_of_a_step_has_a_deterministic_form(
    devices: Callable[[int], Mesh],
) -> None:
    model, mesh = create_model("tiny", in_channels=1, stem="7x7", image_size=32), devices(1)
    rate = optax.constant_schedule(0.1)
    optimizer, look = optax.sgd(rate), dict(mean=(0.5,), std=(0.25,))
    step = make_train_step(StepParts(model, optimizer, rate, **look, deterministic=True), mesh)
    state = init_state(model, optimizer, 0, (32, 32, 1), mesh)
    rows = {"image": np.zeros((4, 32, 32, 1), np.uint8), "label": np.zeros(4, np.int32)}
    assert "select_and_scatter" not in step.lower(state, rows).as_text()
