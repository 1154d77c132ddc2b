"""Residual networks in JAX, on the command line."""

import sys
from pathlib import Path

from flax_resnet.interrupts import end_at_once, unwinding

if __name__ == "__main__" or Path(sys.argv[0]).name == "flax-resnet":
    end_at_once()  # before the imports that take time

import argparse
import contextlib
import importlib
import json
from collections.abc import Iterable
from contextlib import nullcontext
from types import ModuleType

import shtab

from flax_resnet.allocator import keep_freed_memory
from flax_resnet.commands.reporting import (
    Done,
    any_text,
    clear_errors,
    no_tracebacks,
    short_warnings,
    signs_of_life,
    silence,
)
from flax_resnet.errors import InputError, require_local
from flax_resnet.version import VERSION

# A command's module loads when its name is on the command line; `--help` prints these lines alone.
COMMANDS = {
    "average": "average a run's last checkpoints, and write the mean as weights",
    "doctor": "print versions, devices, memory, cores and data folders, and what is wrong with "
    "them",
    "embed": "write an image's features at a stage of a network, averaged over the image: .npy or "
    ".parquet",
    "eval": "evaluate a run, or published weights, on a split",
    "export": "write a network as StableHLO, ONNX, a SavedModel, or safetensors that timm reads",
    "finetune": "train on a folder of images, starting from weights; print the confusion matrix",
    "lab": "run an experiment on skip connections: numbers, a plot and a sentence (no name: list "
    "them)",
    "models": "list networks, or published weights with accuracies: sizes, multiply-adds, licenses",
    "predict": "classify images, with probabilities: a table, CSV or JSON lines",
    "prepare": "prepare a data set: pack the ImageNet archives, or download and convert one of "
    "TFDS",
    "probe": "judge a network's features on other data: neighbors vote, and a linear probe",
    "push": "publish a run on the Hugging Face hub, with a model card made from it",
    "report": "write a page about a run, or one that compares several: curves, classes, mistakes, "
    "settings",
    "robustness": "evaluate weights on the variants of ImageNet, with the mean corruption error: a "
    "table, and CSV",
    "segment": "write masks of images, or of a split, as a segmentation run predicts them",
    "serve": "serve a network over HTTP: for programs, and with a page to drop images on",
    "summary": "describe a network's parts: shapes, parameters, multiply-adds, memory, receptive "
    "field",
    "sweep": "train a recipe once for every combination of settings and every seed; print a table",
    "train": "train what a recipe describes, or continue the run in its folder",
}
_STATUS = """\
exit status: 0 done, 1 done in part, 2 bad input, 69 another process was lost, 70 internal error,
75 interrupted: the same command continues or starts again"""
# Commands that may work for minutes and print only a result.
_SILENT = ("average", "embed", "eval", "export", "report", "segment")
# Accepted after the command's name as well.
_EVERYWHERE = {
    "--debug": "show where an error comes from",
    "--quiet": "print only warnings and errors",
    "--json": "print the results as JSON, and nothing else",
}

_IMPORT = "--import"


def program() -> int:
    """Run the command line in a process that does nothing else."""
    end_at_once()
    keep_freed_memory()
    try:
        return main()
    finally:
        # A signal may end the process before Python does it.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status."""
    with any_text():
        return _run(sys.argv[1:] if arguments is None else list(arguments))


def _run(words: list[str]) -> int:
    completion = any(word.startswith("--print-completion") for word in words)
    words, modules = _split_imports(words)
    parser = make_parser(COMMANDS if completion else set(words))
    parsed, late = parser.parse_known_args([word for word in words if word not in _EVERYWHERE])
    if hasattr(parsed, "flags"):
        parsed.flags, late = late, []
    # argparse takes no positional words behind an option: `lab depth --out here seeds=1`.
    if any(word.startswith("-") for word in late) or (late and not hasattr(parsed, "settings")):
        parser.error(f"unrecognized arguments: {' '.join(late)}")
    if late:
        parsed.settings += late
    for word in _EVERYWHERE:
        setattr(parsed, word.removeprefix("--"), word in words)
    with no_tracebacks(parsed.debug), clear_errors(parsed.debug), short_warnings():
        _require_local(parsed)
        _import_parts(modules)
        command = load_command(parsed.command)
        quiet, name = parsed.quiet or parsed.json, parsed.command
        signs = signs_of_life(lambda: name) if name in _SILENT and not quiet else nullcontext()
        with silence(quiet), unwinding(), signs:
            done: Done = command.run(parsed)
        if parsed.json and done.facts is not None:
            print(json.dumps(done.facts, indent=1))
    return done.status


def _split_imports(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the other words, and the modules that `--import MODULE` names anywhere."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument(_IMPORT, action="append", default=[], dest="modules")
    try:
        found, others = parser.parse_known_args(words)
    except argparse.ArgumentError:  # without a module, which the parser of the command refuses
        return words, []
    return others, found.modules


def _import_parts(modules: list[str]) -> None:
    """Import modules that register user-defined parts, from here or where Python looks.

    Raises:
      InputError: there is no such module, or it cannot be imported.
    """
    if modules and "" not in sys.path:
        sys.path.insert(0, "")  # as `python -m` does
    for name in modules:
        try:
            importlib.import_module(name)
        except InputError:
            raise
        except Exception as error:  # whatever a person's module raises
            hint = f": expected {name}.py here, or the name of an installed module"
            unknown = isinstance(error, ModuleNotFoundError) and error.name == name
            raise InputError(
                f"{_IMPORT} {name}: {type(error).__name__}: {error}{hint if unknown else ''}"
            ) from error


def _require_local(parsed: argparse.Namespace) -> None:
    """Refuse addresses in all arguments of all commands, before anything is done."""
    for value in vars(parsed).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str | Path):
                require_local(each)


def load_command(name: str) -> ModuleType:
    """Return the module of a command."""
    module = "evaluate" if name == "eval" else name  # `eval` is a function of Python
    return importlib.import_module(f"flax_resnet.commands.{module}")


def make_parser(loaded: Iterable[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Args:
      loaded: the commands whose arguments and examples it has; of the others it knows the name.
    """
    module = "python -m flax_resnet"
    parser = argparse.ArgumentParser(
        prog=module if Path(sys.argv[0]).name == "__main__.py" else "flax-resnet",
        description=__doc__,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"flax_resnet {VERSION}")
    for word, text in _EVERYWHERE.items():
        parser.add_argument(word, action="store_true", help=f"{text}; also after the command")
    parser.add_argument(
        _IMPORT,
        metavar="MODULE",
        help="import a module of your own that registers networks, data, ...; also after the "
        "command",
    )
    shtab.add_argument_to(parser, help="print a completion script for a shell to eval")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        subparser = commands.add_parser(name, help=text, description=text)
        if name in loaded:
            command = load_command(name)
            subparser.epilog = f"example: {parser.prog} {command.EXAMPLE}"
            command.add_arguments(subparser)
    return parser


if __name__ == "__main__":
    sys.exit(program())
