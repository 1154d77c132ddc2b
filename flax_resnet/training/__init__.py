"""Training: settings, state, the step, the loop and what it leaves on disk."""

from flax_resnet.training.config import TrainConfig, base_config, parse
from flax_resnet.training.loop import train
from flax_resnet.training.runs import Run, evaluate_run, restore

__all__ = ["Run", "TrainConfig", "base_config", "evaluate_run", "parse", "restore", "train"]
