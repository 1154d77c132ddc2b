"""Parse `--config FILE --config.KEY=VALUE`, as in Flax's examples, with helpful errors."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from flax_resnet.commands.reporting import any_text, clear_errors
from flax_resnet.errors import InputError
from flax_resnet.interrupts import unwinding
from flax_resnet.training.parsing import check_overrides
from flax_resnet.training.recipes import load_recipe, recipe_file, recipes

_CONFIG = ("-config", "--config")
_HELP = ("--help", "-help", "-?")


def config_flag() -> Any:
    """Define `--config` and return its holder, whose `.value` is the config with overrides."""
    text = f"a recipe: a file, or one of {', '.join(recipes())}"
    holder = config_flags.DEFINE_config_file("config", help_string=text)
    flags.mark_flag_as_required("config")
    return holder


def config_name(path: str) -> str:
    """Return the name for a run of a recipe: `rsb_a3`, or `rsb_a3-resnet18` with an argument."""
    file, _, argument = path.partition(":")
    return re.sub(r"[^\w.]+", "-", f"{Path(file).stem} {argument}".strip())


def run_flags(main: Callable[[list[str]], Any], words: list[str]) -> None:
    """Parse a command line and call `main`, as `absl.app.run` does, with clear errors."""
    own = flags.FLAGS.get_flags_for_module(main.__module__)
    for flag in [flags.FLAGS["config"], *own]:
        # --helpshort lists the flags of the program itself.
        flags.FLAGS.register_key_flag_for_module(words[0], flag)
    with any_text(), clear_errors(), unwinding():
        app.run(main, argv=words, flags_parser=_parse)


def _parse(words: list[str]) -> list[str]:
    arguments = parse_recipe(words)
    if _config_path(arguments) is None and not any(word.startswith(_HELP) for word in words):
        raise InputError(
            f"no recipe is given; expected --config and a file, or one of {', '.join(recipes())}"
        )
    try:
        rest: list[str] = flags.FLAGS(arguments)
    except flags.Error as error:
        raise InputError(f"{error}. `--helpshort` lists the flags.") from None
    verbosity = flags.FLAGS["verbosity"]
    if verbosity.using_default_value:
        # Orbax logs every file that it writes; --verbosity=0 shows these lines.
        verbosity.value, verbosity.using_default_value = logging.WARNING, False
    if len(rest) > 1:
        raise InputError(
            f"found {rest[1:]}, which are not flags; settings are written --config.KEY=VALUE"
        )
    return rest


def parse_recipe(words: list[str]) -> list[str]:
    """Replace the name of a recipe by its file, and check the keys of the settings.

    Raises:
      InputError: the recipe does not exist or cannot be loaded, or a key is unknown.
    """
    arguments = _with_files(words)
    path = _config_path(arguments)
    if path is not None:
        check_overrides(load_recipe(path), arguments)
    return arguments


def _with_files(words: list[str]) -> list[str]:
    arguments = []
    for before, word in zip(["", *words], words, strict=False):
        flag = next((flag for flag in _CONFIG if word.startswith(f"{flag}=")), None)
        if flag:
            word = f"{flag}={recipe_file(word.removeprefix(f'{flag}='))}"
        elif before in _CONFIG:
            word = recipe_file(word)
        arguments.append(word)
    return arguments


def _config_path(arguments: list[str]) -> str | None:
    """Return the value of the last `--config`, which overrides the others."""
    path = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in _CONFIG:
            path = value if equals else following
    return path
