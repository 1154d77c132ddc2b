"""Train a network: python train.py --config configs/digits.py [--config.KEY=VALUE ...]."""

from pathlib import Path

from absl import flags

import flax_resnet
from flax_resnet.commands.flags import config_flag, config_name, run
from flax_resnet.training.cluster.joining import PATIENCE, joined

CONFIG = config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default: runs/RECIPE")
STOP_AFTER = flags.DEFINE_integer("stop_after", None, "stop and save after this step")
ALLOW = flags.DEFINE_bool("allow_config_change", False, "go on with a run of other settings")
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of the first of several processes; off: be a lone one"
)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "which of several processes this is, from 0")
PROCESS_COUNT = flags.DEFINE_integer("process_count", None, "how many processes train together")
PATIENCE_FLAG = flags.DEFINE_integer(
    "patience", PATIENCE, "seconds of silence after which another process counts as lost"
)


def main(arguments: list[str]) -> None:
    """Turn flags into a config and train."""
    del arguments
    cluster = (COORDINATOR.value, PROCESS_ID.value, PROCESS_COUNT.value)
    with joined(*cluster, patience=PATIENCE_FLAG.value):
        flax_resnet.train(
            CONFIG.value,
            WORKDIR.value or Path("runs") / config_name(flags.FLAGS["config"].config_filename),
            stop_after=STOP_AFTER.value,
            allow_config_change=ALLOW.value,
        )


if __name__ == "__main__":
    run(main)
