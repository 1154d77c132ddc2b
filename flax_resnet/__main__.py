"""Residual networks in JAX, on the command line."""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType

import shtab

from flax_resnet.commands import (
    doctor,
    embed,
    evaluate,
    export,
    finetune,
    lab,
    models,
    predict,
    prepare,
    report,
    segment,
    serve,
    summary,
    sweep,
    train,
)
from flax_resnet.commands.reporting import Done, clear_errors, no_tracebacks, silence
from flax_resnet.version import VERSION

COMMANDS: dict[str, ModuleType] = {
    "doctor": doctor,
    "embed": embed,
    "eval": evaluate,
    "export": export,
    "finetune": finetune,
    "lab": lab,
    "models": models,
    "predict": predict,
    "prepare": prepare,
    "report": report,
    "segment": segment,
    "serve": serve,
    "summary": summary,
    "sweep": sweep,
    "train": train,
}
_STATUS = """\
exit status: 0 done, 1 done in part, 2 bad input, 69 another process was lost, 70 a fault of ours,
75 interrupted and saved, 130 interrupted"""
# They may stand behind a command as well.
_EVERYWHERE = {
    "--debug": "show where an error comes from",
    "--quiet": "print warnings and errors alone",
    "--json": "print what was found and written as JSON, and nothing else",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    parser = make_parser()
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
    with no_tracebacks(parsed.debug), clear_errors(parsed.debug):
        with silence(parsed.quiet or parsed.json):
            done: Done = COMMANDS[parsed.command].run(parsed)
        if parsed.json and done.facts is not None:
            print(json.dumps(done.facts, indent=1))
    return done.status


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands, each with its help and an example."""
    module = "python -m flax_resnet"
    parser = argparse.ArgumentParser(
        prog=module if Path(sys.argv[0]).name == "__main__.py" else "flax-resnet",
        description=__doc__,
        epilog=_STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"flax_resnet {VERSION}")
    for word, text in _EVERYWHERE.items():
        parser.add_argument(word, action="store_true", help=f"{text}; also behind a command")
    shtab.add_argument_to(parser, help="print what completes commands in a shell: eval it there")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        command.add_arguments(
            commands.add_parser(
                name,
                help=command.HELP,
                description=command.HELP,
                epilog=f"example: {parser.prog} {command.EXAMPLE}",
            )
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
