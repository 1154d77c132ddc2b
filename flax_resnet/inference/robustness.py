"""Accuracy on the variants of ImageNet, and the mean corruption error."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.errors import InputError, require_known
from flax_resnet.steps.mesh import data_mesh, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.training.checks import check_task
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.evaluation import Evaluate, evaluate
from flax_resnet.training.networks import TrainedNetwork

SEVERITIES = (1, 2, 3, 4, 5)
# The top-1 error of AlexNet on ImageNet-C, its mean over the severities, by which the authors
# normalize errors (Hendrycks and Dietterich, arXiv:1903.12261;
# https://github.com/hendrycks/robustness).
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}


class ImageSet(NamedTuple):
    """A test set with classes of ImageNet.

    The source of ImageNet-C has `{corruption}` and `{severity}` in it.
    """

    source: str
    split: str


CORRUPTED = "c"
SETS = {
    "imagenet": ImageSet("tfds:imagenet2012", "validation"),
    "real": ImageSet("tfds:imagenet2012_real", "validation"),  # arXiv:2006.07159
    "v2": ImageSet("tfds:imagenet_v2/matched-frequency", "test"),  # arXiv:1902.10811
    "a": ImageSet("tfds:imagenet_a", "test"),  # arXiv:1907.07174
    "r": ImageSet("tfds:imagenet_r", "test"),  # arXiv:2006.16241
    "sketch": ImageSet("tfds:imagenet_sketch", "test"),  # arXiv:1905.13549
    CORRUPTED: ImageSet("tfds:imagenet2012_corrupted/{corruption}_{severity}", "validation"),
}


def parse_set(text: str) -> tuple[str, ImageSet]:
    """Return the name and the test set of `NAME` or `NAME=SOURCE`.

    A folder of classes is one split, called train.

    Raises:
      InputError: the name is unknown, or a source for ImageNet-C lacks a place for a name.
    """
    name, _, source = text.partition("=")
    require_known("--sets", name, SETS)
    if not source:
        return name, SETS[name]
    missing = [part for part in ("{corruption}", "{severity}") if part not in source]
    if name == CORRUPTED and missing:
        raise InputError(
            f"--sets {text} has no {' and no '.join(missing)}; expected both, as in "
            f"{name}=folder:imagenet-c/{{corruption}}/{{severity}}"
        )
    split = "train" if source.startswith(("folder:", "csv:")) else SETS[name].split
    return name, ImageSet(source, split)


def robustness(
    network: TrainedNetwork,
    sets: Mapping[str, ImageSet],
    data: DataConfig,
    mesh: Mesh | None = None,
    on_set: Callable[[str], object] = lambda name: None,
) -> dict[str, float]:
    """Return the top-1 accuracy on each set; for ImageNet-C `mce` and `ce/NAME` of corruptions.

    On ImageNet-A and -R only their 200 classes compete, and with ReaL any of the labels is right.
    The images of ImageNet-C are cropped already, so that they are evaluated whole.

    Args:
      data: how images are prepared.
      on_set: called with the source of each set before it is evaluated.

    Raises:
      InputError: the network finds something else than one class of an image, or does not know the
        classes of a set, or a set cannot be opened.
    """
    if network.origin.task != "classification":
        raise InputError(
            f"{network.name} is a network for {network.origin.task}; expected classification"
        )
    accuracy_on = _make_accuracy_on(network, mesh or data_mesh())
    found: dict[str, float] = {}
    for name, test in sets.items():
        if name != CORRUPTED:
            on_set(test.source)
            found[name] = accuracy_on(dataclasses.replace(data, source=test.source), test.split)
            continue
        errors = {}
        whole = dataclasses.replace(data, eval_crop=1.0)
        for corruption, severity in corruptions():
            source = test.source.format(corruption=corruption, severity=severity)
            on_set(source)
            accuracy = accuracy_on(dataclasses.replace(whole, source=source), test.split)
            errors[corruption, severity] = 1 - accuracy
        ratios = corruption_errors(errors)
        found["mce"] = sum(ratios.values()) / len(ratios)
        found |= {f"ce/{corruption}": ratio for corruption, ratio in ratios.items()}
    return found


def corruptions() -> Iterator[tuple[str, int]]:
    """Yield each corruption of ImageNet-C with each severity."""
    for corruption in ALEXNET:
        for severity in SEVERITIES:
            yield corruption, severity


def corruption_errors(errors: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Return the corruption error of each corruption; their mean is the mCE.

    It is the sum of the network's errors over the severities, over the sum of AlexNet's.

    Args:
      errors: the top-1 error by corruption and severity.
    """
    return {
        name: sum(errors[name, severity] for severity in SEVERITIES) / (len(SEVERITIES) * error)
        for name, error in ALEXNET.items()
    }


def _make_accuracy_on(network: TrainedNetwork, mesh: Mesh) -> Callable[[DataConfig, str], float]:
    """Return a function from data and a split to the accuracy, which reuses compiled programs.

    The programs of sets differ only by the classes that compete.
    """
    copies = jax.device_put(dict(network.variables), replicated(mesh))
    programs: dict[Any, Evaluate] = {}

    def accuracy_on(data: DataConfig, split: str) -> float:
        source = open_source(data, split)
        check_task(source, "classification", several_labels=True)
        outputs = network.model.num_classes
        source = for_outputs(source, network.class_names, outputs, network.name)
        competing = competing_outputs(source, data.source, outputs)
        if competing not in programs:
            programs[competing] = make_eval_step(
                network.model,
                mesh,
                mean=data.mean,
                std=data.std,
                flip=data.eval_flip,
                outputs=competing,
            )
        return evaluate(programs[competing], copies, source, data, mesh)["top1"]

    return accuracy_on
