"""`--config FILE --config.KEY=VALUE` as users of Flax know it, with errors that help."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from flax_resnet.commands.reporting import clear_errors
from flax_resnet.errors import InputError
from flax_resnet.training.parsing import check_overrides


def config_flag() -> Any:
    """Define `--config` and return its holder; `.value` is the config, overrides applied."""
    holder = config_flags.DEFINE_config_file("config", help_string="a recipe such as configs/x.py")
    flags.mark_flag_as_required("config")
    return holder


def run(main: Callable[[list[str]], Any]) -> None:
    """Parse the command line and call `main`, as `absl.app.run` does, with clear errors."""
    with clear_errors():
        app.run(main, flags_parser=_parse)


def _parse(arguments: list[str]) -> list[str]:
    path = _config_path(arguments)
    if path is not None:
        check_overrides(_load(path), arguments[1:])
    try:
        rest: list[str] = flags.FLAGS(arguments)
    except flags.Error as error:
        raise InputError(f"{error}. `--helpshort` lists the flags.") from None
    verbosity = flags.FLAGS["verbosity"]
    if verbosity.using_default_value:
        # Orbax tells at length of every file that it writes; --verbosity=0 brings that back.
        verbosity.value, verbosity.using_default_value = logging.WARNING, False
    if len(rest) > 1:
        raise InputError(f"found {rest[1:]} besides flags; settings are written --config.KEY=VALUE")
    return rest


def _config_path(arguments: list[str]) -> str | None:
    """Return the value of the last `--config`, which is the one that counts."""
    path = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("-config", "--config"):
            path = value if equals else following
    return path


def _load(path: str) -> Any:
    file = Path(path.split(":", 1)[0])
    if not file.is_file():
        known = ", ".join(sorted(map(str, (file.parent or Path()).glob("*.py")))) or "none"
        raise InputError(f"there is no config file {file}; python files beside it: {known}")
    try:
        return ConfigFileFlagParser("config").parse(path)
    except Exception as error:  # whatever a user's file raises
        where = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{file} cannot be loaded: {type(error).__name__} in {where.filename}, line "
            f"{where.lineno}: {error}"
        ) from error
