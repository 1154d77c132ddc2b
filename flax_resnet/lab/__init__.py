"""Experiments on skip connections: pure functions that return numbers, and plots of them."""

from flax_resnet.lab.experiment import EXPERIMENTS, Experiment, load_experiment
from flax_resnet.lab.report import perform

__all__ = ["EXPERIMENTS", "Experiment", "load_experiment", "perform"]
