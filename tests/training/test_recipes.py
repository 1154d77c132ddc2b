"""Recipes by their names, in a program and for the command line."""

import sys
from pathlib import Path

import pytest

import flax_resnet
from flax_resnet import InputError
from flax_resnet.training.parsing import parse
from flax_resnet.training.recipes import recipe_file, recipes

ROOT = Path(__file__).parents[2]


def test_a_recipe_is_loaded_by_its_name_or_file_with_its_argument() -> None:
    by_name = flax_resnet.load_recipe("cifar10_resnet20:cifar100/resnet18")
    by_file = flax_resnet.load_recipe(f"{ROOT}/configs/cifar10_resnet20.py:cifar100/resnet18")
    assert by_name == by_file
    assert (by_name.data.source, by_name.model.name) == ("tfds:cifar100", "resnet18")


def test_a_loaded_recipe_can_be_changed_and_its_keys_are_known() -> None:
    config = flax_resnet.load_recipe("digits")
    config.epochs = 2.0
    assert parse(config).epochs == 2.0
    with pytest.raises(AttributeError, match="epochs"):
        config.epoch = 2.0


def test_a_recipe_imports_modules_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "beside_the_recipe.py").write_text("STEPS = 7")
    (tmp_path / "recipe.py").write_text(
        "import beside_the_recipe\n"
        "from flax_resnet.training.parsing import base_config\n"
        "def get_config():\n"
        "    config = base_config()\n"
        "    config.steps = beside_the_recipe.STEPS\n"
        "    return config\n"
    )
    assert flax_resnet.load_recipe(str(tmp_path / "recipe.py")).steps == 7


def test_an_unknown_recipe_is_an_error_with_the_near_names() -> None:
    with pytest.raises(InputError, match="Did you mean 'digits'"):
        flax_resnet.load_recipe("digit")


def test_a_recipe_name_gives_its_file_and_a_path_itself() -> None:
    assert recipes()["digits"] == ROOT / "configs" / "digits.py"
    assert recipe_file("rsb_a3:resnet18") == f"{ROOT / 'configs' / 'rsb_a3.py'}:resnet18"
    assert recipe_file("elsewhere/digits.py:x") == "elsewhere/digits.py:x"
