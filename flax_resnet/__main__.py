"""`python -m flax_resnet COMMAND`."""

import argparse
import sys

from flax_resnet.commands import evaluate, finetune, lab, models, prepare, segment, summary
from flax_resnet.commands.reporting import clear_errors

COMMANDS = {
    "eval": evaluate,
    "finetune": finetune,
    "lab": lab,
    "models": models,
    "prepare": prepare,
    "segment": segment,
    "summary": summary,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m flax_resnet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module.add_arguments(commands.add_parser(name, help=module.HELP, description=module.HELP))
    parsed, late = parser.parse_known_args(arguments)
    # argparse takes no positional words behind an option: `lab depth --out here seeds=1`.
    if any(word.startswith("-") for word in late) or (late and not hasattr(parsed, "settings")):
        parser.error(f"unrecognized arguments: {' '.join(late)}")
    if late:
        parsed.settings += late
    with clear_errors():
        return COMMANDS[parsed.command].run(parsed)


if __name__ == "__main__":
    sys.exit(main())
