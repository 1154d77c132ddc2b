"""A network and a recipe small enough to train in a test."""

from collections.abc import Callable
from typing import Any

import jax
import pytest
from jax.sharding import Mesh

from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.mesh import data_mesh
from flax_resnet.training.parsing import parse

TINY = dict(stage_sizes=(1, 1), widths=(8, 16), stem="cifar", num_classes=10, image_size=8)


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the row `tiny`: two residual blocks with batch norm."""
    monkeypatch.setitem(VARIANTS, "tiny", TINY)


@pytest.fixture
def tiny_config() -> Callable[..., TrainConfig]:
    """Return a function that makes a config for `tiny` on synthetic data, changed by keyword."""

    def make(**changes: Any) -> TrainConfig:
        data = dict(
            source="synthetic:10",
            batch_size=16,
            eval_split="validation[:256]",
            eval_batch_size=64,
            image_size=8,
            channels=1,
            crop="pad_crop",
            crop_padding=1,
            flip=False,
            eval_crop=1.0,
            mean=(0.5,),
            std=(0.25,),
            workers=0,
        )
        settings: dict[str, Any] = dict(
            steps=8, log_every=1, model=dict(name="tiny"), schedule=dict(learning_rate=0.2)
        )
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name and section == "data":
                data[name] = value
            elif name:
                settings.setdefault(section, {})
                settings[section] = settings[section] | {name: value}
            else:
                settings[key] = value
        return parse(settings | {"data": data})

    return make


@pytest.fixture
def devices() -> Callable[[int], Mesh]:
    """Return a function that makes a mesh of so many fake devices."""
    return lambda count: data_mesh(jax.devices()[:count])
