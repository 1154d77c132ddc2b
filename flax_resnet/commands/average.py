"""Average a run's last checkpoints: `python -m flax_resnet average runs/digits --last 3`."""

import argparse
from pathlib import Path

from flax_resnet.commands.reporting import Done
from flax_resnet.errors import printable
from flax_resnet.export.formats import write_hub
from flax_resnet.export.network import Exported
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.averaging import BATCHES, average_checkpoints
from flax_resnet.training.networks import find_network

EXAMPLE = "average runs/digits --last 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("run", help="folder of a run, such as runs/digits")
    parser.add_argument(
        "--last",
        type=int,
        help="number of checkpoints, the newest ones (default: config.checkpoint.keep_latest)",
    )
    parser.add_argument(
        "--batches",
        type=int,
        default=BATCHES,
        help=f"training batches that give the batch statistics (default: {BATCHES})",
    )
    parser.add_argument("--out", type=Path, help="folder of the weights (default: RUN/average)")


def run(args: argparse.Namespace) -> Done:
    """Write the weights, and print the metrics of the checkpoints and of their mean."""
    found = average_checkpoints(args.run, args.last, args.batches)
    averaged, folder = found.run, args.out or Path(args.run) / "average"
    config, names = averaged.config, averaged.class_names
    network = Exported(config.model.name, averaged.model, averaged.variables, config.data, names)
    write_hub(network, folder, find_network(args.run).description)
    line = TASKS[config.task].shown_for(len(names)).line
    print(f"on {config.data.eval_split}:")
    for step, metrics in found.members.items():
        print(f"step {step}: {line.format_map(metrics) if metrics else 'not evaluated'}")
    print(f"their average: {line.format_map(averaged.metrics)}")
    print(f"{printable(folder)}: weights that every command takes in place of a run")
    members = {str(step): metrics for step, metrics in found.members.items()}
    return Done({"path": str(folder), "members": members, "average": averaged.metrics})
