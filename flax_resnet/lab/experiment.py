"""What an experiment is, and which ones there are.

Each is a module of this package with the same six names:

| name                      | what                                                         |
|---------------------------|--------------------------------------------------------------|
| `Settings`                | a frozen dataclass                                           |
| `SIZES`                   | settings by size: `small` takes minutes on a CPU; `paper`    |
| `Result`                  | a frozen dataclass of arrays, and words that name their axes |
| `run(settings, track)`    | a pure function from settings to result                      |
| `finding(result)`         | one sentence with the figures                                |
| `draw(result)`            | a matplotlib figure                                          |
"""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flax_resnet.errors import require_known

EXPERIMENTS = {
    "degradation": "plain networks train worse as they grow deeper, residual ones do not",
    "gradients": "gradient norms by layer, and what blocks do to a small change of their input",
    "identity": "how close blocks are to the identity, and networks that zero blocks leave alone",
    "shortcuts": "accuracy and gradient flow of every kind of shortcut and order of layers",
    "lesion": "what deleting, and exchanging, blocks of a trained network costs",
    "paths": "how many paths of each length a network has, and how much gradient they carry",
    "landscape": "the loss around a trained network, along filter-normalised directions",
    "depth": "stochastic depth, and the first steps of very deep networks",
    "highway": "50 layers with gates train where 50 plain layers do not",
    "reuse": "which earlier layers the layers of a DenseNet read",
    "cam": "where in the image the evidence for a class lies",
    "features": "nearest neighbours and a map of the features of a network",
    "receptive": "the receptive field in theory and as gradients measure it",
    "walk": "the first examples of residual learning, with the values that they print",
}

Item = TypeVar("Item")
Track = Callable[[Iterable[Item], str], Iterable[Item]]


def silent(items: Iterable[Item], description: str) -> Iterable[Item]:
    """Go through the items without telling anyone: the default of `track`."""
    del description
    return items


@dataclass(frozen=True)
class Experiment:
    """One experiment, loaded."""

    name: str
    sizes: Mapping[str, Any]
    run: Callable[..., Any]
    finding: Callable[[Any], str]
    draw: Callable[[Any], Any]


def load_experiment(name: str) -> Experiment:
    """Import an experiment and its plot.

    Raises:
      InputError: there is no experiment of this name.
    """
    require_known("the experiment", name, EXPERIMENTS)
    module = importlib.import_module(f"flax_resnet.lab.{name}")
    return Experiment(name, module.SIZES, module.run, module.finding, module.draw)
