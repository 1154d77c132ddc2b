"""Train a network: python train.py --config configs/digits.py [--config.KEY=VALUE ...]."""

from pathlib import Path

from absl import flags

import flax_resnet
from flax_resnet.commands.flags import config_flag, run

CONFIG = config_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run; default: runs/<config's name>")
STOP_AFTER = flags.DEFINE_integer("stop_after", None, "stop and save after this step")
ALLOW = flags.DEFINE_bool("allow_config_change", False, "go on with a run of other settings")


def main(arguments: list[str]) -> None:
    """Turn flags into a config and train."""
    del arguments
    name = Path(flags.FLAGS["config"].config_filename.split(":")[0]).stem
    flax_resnet.train(
        CONFIG.value,
        WORKDIR.value or Path("runs") / name,
        stop_after=STOP_AFTER.value,
        allow_config_change=ALLOW.value,
    )


if __name__ == "__main__":
    run(main)
