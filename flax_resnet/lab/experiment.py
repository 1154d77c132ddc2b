"""The interface and the table of experiments.

An experiment is a module of this package with these six names:

| name                      | meaning                                                      |
|---------------------------|--------------------------------------------------------------|
| `Settings`                | a frozen dataclass                                           |
| `SIZES`                   | settings by size: `small` takes minutes on a CPU; `paper`    |
| `Result`                  | a frozen dataclass of arrays and the labels of their axes    |
| `run(settings, track)`    | a pure function from settings to result                      |
| `finding(result)`         | one sentence with the numbers                                |
| `draw(result)`            | a matplotlib figure                                          |
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flax_resnet.errors import require_known

EXPERIMENTS = {
    "degradation": "plain networks train worse as they grow deeper, residual ones do not",
    "shallow": "the gain of shortcuts at every depth from four layers up, and what depth costs",
    "gradients": "gradient norms by layer, and how blocks amplify a small change in their input",
    "identity": "how close blocks are to the identity, and adding blocks of zeros to a network",
    "shortcuts": "accuracy and gradient flow of every kind of shortcut and order of layers",
    "stream": "what linear probes read from the maps after every block, with and without skips",
    "lesion": "the error after deleting or exchanging blocks of a trained network",
    "paths": "how many paths of each length a network has, and how much gradient they carry",
    "landscape": "the loss around a trained network, along filter-normalized directions",
    "depth": "stochastic depth, and the first steps of very deep networks",
    "highway": "50 layers with gates train where 50 plain layers do not",
    "reuse": "which earlier layers the layers of a DenseNet read",
    "cam": "where in the image the evidence for a class lies",
    "features": "nearest neighbors and an embedding of the features of a network",
    "receptive": "the receptive field in theory and as measured by gradients",
    "walk": "common introductory claims about residual learning, checked by computing them",
}

Item = TypeVar("Item")
Track = Callable[[Iterable[Item], str], Iterable[Item]]


def silent(items: Iterable[Item], description: str) -> Iterable[Item]:
    """Return the items without showing progress: the default of `track`."""
    del description
    return items


@dataclass(frozen=True)
class Experiment:
    """A loaded experiment."""

    name: str
    sizes: Mapping[str, Any]
    run: Callable[..., Any]
    finding: Callable[[Any], str]
    draw: Callable[[Any], Any]


def load_experiment(name: str) -> Experiment:
    """Import an experiment.

    Raises:
      InputError: no experiment has this name.
    """
    require_known("the experiment", name, EXPERIMENTS)
    module = importlib.import_module(f"flax_resnet.lab.{name}")
    return Experiment(name, module.SIZES, module.run, module.finding, module.draw)
