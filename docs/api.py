"""Write the reference of the API from its docstrings: `make docs`, or `python docs/api.py site`."""

import sys
import warnings
from pathlib import Path

import pdoc

import flax_resnet

# What is for everybody; the rest is for those who read the code.
MODULES = (
    "flax_resnet",
    "flax_resnet.models",
    "flax_resnet.models.layers",
    "flax_resnet.weights",
    "flax_resnet.data",
    "flax_resnet.training.config",
    "flax_resnet.data.config",
    "flax_resnet.data.augment.config",
    "flax_resnet.steps.updates.config",
    "flax_resnet.training.runs",
    "flax_resnet.steps.step",
    "flax_resnet.inference.predictor",
    "flax_resnet.lab",
)


def write_reference(folder: Path) -> None:
    """Write a page for each module."""
    for name in flax_resnet.__all__:
        # pdoc looks at what is there, and some names are there on first use alone.
        setattr(flax_resnet, name, getattr(flax_resnet, name))
    pdoc.render.configure(docformat="google")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Those of jax's initialisers are words of its own modules.
        warnings.filterwarnings("ignore", "Error parsing type annotation")
        pdoc.pdoc(*MODULES, output_directory=folder)


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
    print(f"reference: {Path(sys.argv[1]) / 'index.html'}")
