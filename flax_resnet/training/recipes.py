"""Recipes: files whose `get_config` returns settings, known by their names."""

import os
import re
import runpy
import sys
import traceback
from pathlib import Path

from ml_collections import ConfigDict

from flax_resnet.errors import InputError, expected_names, require_local

_PACKAGE = Path(__file__).parents[1]


def recipes() -> dict[str, Path]:
    """Return the path of each recipe by its name, sorted."""
    installed = _PACKAGE / "recipes"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def recipe_file(path: str) -> str:
    """Return the file of a recipe, with the argument after its colon.

    Args:
      path: a file, or the name of a recipe.
    """
    name, colon, argument = path.partition(":")
    return f"{recipes().get(name, name)}{colon}{argument}"


def load_recipe(path: str) -> ConfigDict:
    """Return the settings of a recipe, to be changed and passed to `train`.

    Args:
      path: the name or the file of a recipe, with its argument after a colon, if it takes one:
        `digits`, `rsb_a3:resnet18` or `configs/digits.py`.

    Raises:
      InputError: there is no such recipe, or it cannot be loaded.
    """
    require_local(path)
    path = recipe_file(path)
    name, *argument = path.split(":", 1)
    file = Path(name)
    if not _is_file(file):
        known = ", ".join(sorted(map(str, (file.parent or Path()).glob("*.py")))) or "none"
        near = f"; for a recipe {expected_names(name, recipes())}" if name == file.stem else ""
        raise InputError(
            f"config file {file} does not exist; Python files beside it: {known}{near}"
        )
    folder = os.fspath(file.parent.absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)  # as for a script: a recipe imports modules beside it
    try:
        config = runpy.run_path(name)["get_config"](*argument)
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        # For an unknown key, ml_collections lists all keys before the similar ones.
        reason = re.sub(r'Other fields present: ".*"(\\n|\n)', "", str(error), flags=re.DOTALL)
        raise InputError(
            f"{file} cannot be loaded: {type(error).__name__} in {_place(error, name)}: {reason}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"get_config() of {file} returns a {type(config).__name__}; expected the ConfigDict "
            "that base_config() makes"
        )
    return config


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A name too long, or a locked folder.
        return False


def _place(error: BaseException, file: str) -> str:
    """Return the last line of the user's file in the traceback of an error."""
    if isinstance(error, SyntaxError):
        return f"{file}, line {error.lineno or 1}"
    frames = traceback.extract_tb(error.__traceback__)
    inside = [frame.lineno for frame in frames if frame.filename == file]
    return f"{file}, line {inside[-1]}" if inside else file
