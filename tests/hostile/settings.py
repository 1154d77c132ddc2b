"""Faulty recipes and settings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from flax_resnet.commands import flags as command_line
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from tests.hostile.case import Case

BASE = "from flax_resnet.training.parsing import base_config\ndef get_config():\n"
BASE += "    config = base_config()\n"


def parse_words(words: list[str]) -> TrainConfig:
    """Return the config of train.py's command line, without the program's name."""
    command = ["train.py", *words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flags, "FLAGS", values := flags.FlagValues())
        patch.setattr(sys, "argv", command)  # where ml_collections looks for settings
        flags.DEFINE_integer("verbosity", -1, "verbosity of absl's log", flag_values=values)
        config = config_flags.DEFINE_config_file("config", flag_values=values)
        flags.mark_flag_as_required("config", flag_values=values)
        command_line._parse(command)
        return parse(config.value)


def recipe(text: str, *arguments: str) -> Callable[[Path], None]:
    """Return a function that reads a config file and settings, as train.py does."""

    def run(folder: Path) -> None:
        path = folder / "recipe.py"
        path.write_text(text)
        parse_words([f"--config={path}", *arguments])

    return run


def setting(argument: str) -> Callable[[Path], None]:
    """Return a function that gives a setting on the command line."""
    return recipe(BASE + "    return config\n", argument)


SETTINGS = [
    Case("a recipe that is not Python", recipe("def get_config(:\n"), "SyntaxError in ~, line 1"),
    Case(
        "a recipe with a mistake",
        recipe(BASE + "    config.sede = 3\n    return config\n"),
        'cannot be loaded: AttributeError in ~recipe.py, line 4: ~Did you mean "seed"',
    ),
    Case(
        "a recipe that returns nothing",
        recipe("def get_config():\n    pass\n"),
        "returns a NoneType; expected the ConfigDict that base_config() makes",
    ),
    Case(
        "a recipe that ends the program", recipe("raise SystemExit(0)\n"), "SystemExit in ~, line"
    ),
    Case(
        "a setting that is not a number",
        setting("--config.epochs=nan"),
        "config.epochs is nan; expected a number up to",
    ),
    Case(
        "a setting with a word among its numbers",
        setting('--config.data.std=("a",)'),
        "an entry of config.data.std is 'a', of type str; expected float",
    ),
    Case(
        "a setting of a setting", setting("--config.seed.x=3"), "--config.seed.x: there is no 'x'"
    ),
]
