"""Recipes that cannot be trained here set what their reference implementation computes with.

`goldens/recipes.json` is what timm, torch and torchvision made of the published settings
(`python -m tools.recipe_goldens`).
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.data.augment.severities import RAND_INCREASING, TRIVIAL_LEVELS, TRIVIAL_WIDE
from flax_resnet.models import create_model, variable_shapes
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.steps.updates.groups import decay_mask
from flax_resnet.steps.updates.schedules import make_schedule
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.recipes import load_recipe
from tools.recipe_goldens import CLASSES, NOISE, SHARES

GOLDEN = json.loads((Path(__file__).parents[1] / "goldens" / "recipes.json").read_text())
RECIPES = GOLDEN["recipes"]
every_recipe = pytest.mark.parametrize("name", RECIPES)


def recipe(name: str) -> TrainConfig:
    return parse(load_recipe(name))


@every_recipe
def test_the_rate_of_every_epoch_is_the_schedulers(name: str, x64: None) -> None:
    config, expected = recipe(name), RECIPES[name]["rates"]
    assert max(map(int, expected)) == config.epochs - 1
    per_epoch = 1_281_167 / config.data.batch_size
    rate = make_schedule(config.schedule, math.ceil(config.epochs * per_epoch), per_epoch)
    epochs = np.asarray([*map(int, expected)])
    # Epochs are not whole numbers of steps: that in which one ends may already be the next one's,
    # and a run ends with a whole step.
    for steps in (np.ceil(epochs * per_epoch), np.ceil((epochs + 1) * per_epoch) - 2):
        close = 1e-6 * config.schedule.learning_rate
        np.testing.assert_allclose(rate(steps), [*expected.values()], rtol=1e-6, atol=close)


@every_recipe
def test_the_same_parameters_have_weight_decay(name: str) -> None:
    config = recipe(name)
    assert not config.optimizer.decay_norms
    params = variable_shapes(create_model("resnet50"))["params"]
    mask = jax.tree.leaves(decay_mask(params))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    decayed = sum(size for size, decays in zip(sizes, mask, strict=True) if decays)
    # torchvision's recipe also has decay of the head's bias, as the recipe here says.
    bias = 1000 if name == "torchvision_v2" else 0
    found = [[0.0, sum(sizes) - decayed - bias], [config.optimizer.weight_decay, decayed + bias]]
    assert found == RECIPES[name]["decay"]


@every_recipe
def test_mixed_and_smoothed_labels_have_the_same_loss(name: str, x64: None) -> None:
    config, golden = recipe(name), RECIPES[name]
    logits = jnp.asarray(GOLDEN["logits"])
    labels = np.arange(len(logits)) % CLASSES
    partner = labels[::-1] if golden["partner"] == "reversed" else np.roll(labels, 1)
    task = TASKS["classification"]
    settings = {key: getattr(config, key) for key in task.settings}
    for share, expected in zip(SHARES, golden["losses"], strict=True):
        batch = {"label": labels, "partner": partner, "share": np.full(len(labels), share)}
        loss, _ = task.loss(logits, jax.tree.map(jnp.asarray, batch), **settings)
        # The targets of mixed images are made in float32.
        assert float(loss) == pytest.approx(expected, rel=1e-6)


# Names of operations where they are not ours in another spelling.
OTHER_NAMES = {"color": "colour", "auto_contrast": "autocontrast"}


def own_name(operation: str) -> str:
    """Return our name of `SolarizeIncreasing` or `TranslateXRel`."""
    words = re.findall(r"[A-Z][a-z]*", operation)
    name = "_".join(word.lower() for word in words if word not in ("Increasing", "Rel"))
    return OTHER_NAMES.get(name, name)


@pytest.mark.parametrize("name", ["rsb_a1", "rsb_a2", "rsb_a3"])
def test_randaugments_operations_have_timms_arguments(name: str) -> None:
    augment, golden = recipe(name).data.augment, RECIPES[name]["augmentation"]
    assert (augment.policy, augment.operations, augment.probability) == ("rand", 2, 0.5)
    assert augment.increasing
    assert [float(magnitude) - augment.magnitude for magnitude in golden] == list(NOISE)
    for magnitude, arguments in golden.items():
        assert {own_name(each) for each in arguments} == set(RAND_INCREASING)
        for operation, expected in arguments.items():
            row = RAND_INCREASING[own_name(operation)]
            signs = (True, False) if len(expected) > 1 else (False,)
            found = [row.argument(float(magnitude) / 10, sign) for sign in signs if expected]
            assert found == pytest.approx(expected), operation


def test_trivialaugments_operations_have_torchvisions_arguments() -> None:
    augment = recipe("torchvision_v2").data.augment
    assert (augment.policy, augment.fill, augment.erase) == ("trivial", "black", 0.1)
    golden: dict[str, Any] = RECIPES["torchvision_v2"]["augmentation"]
    assert {own_name(each) for each in golden} == set(TRIVIAL_WIDE)
    for operation, expected in golden.items():
        row = TRIVIAL_WIDE[own_name(operation)]
        assert row.signed == expected["signed"]
        magnitudes = expected["magnitudes"]
        if len(magnitudes) == 1:
            continue
        # torchvision adds one to the factors of enhancements when it applies them, and truncates
        # translations, one of which is 15.999999 in its float32.
        factor = own_name(operation) in ("brightness", "colour", "contrast", "sharpness")
        fractions = [level / (TRIVIAL_LEVELS - 1) for level in range(TRIVIAL_LEVELS)]
        found = [row.argument(each, False) - factor for each in fractions]
        whole = operation.startswith("Translate")
        wanted = [int(each + 1e-5) for each in magnitudes] if whole else magnitudes
        assert found == pytest.approx(wanted, abs=1e-5), operation
