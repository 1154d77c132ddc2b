"""Everything that one pass over a split says about a network: metrics, intervals, calibration."""

from collections.abc import Sequence
from typing import Any

from flax_resnet.data import DataConfig, Source
from flax_resnet.data.sources.sample import Sample
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.inference.calibration import (
    FITTED_IMAGES,
    calibration_error,
    fit_temperature,
    reliability,
)
from flax_resnet.inference.measures import class_measures, intervals, measures
from flax_resnet.inference.scores import Scores, open_labeled, score_split, scored_batches
from flax_resnet.training.networks import TrainedNetwork


def assess(
    network: TrainedNetwork, source: Source, data: DataConfig, fitted_on: str | None = None
) -> dict[str, Any]:
    """Return the measures of a network on a split, as JSON values.

    They are count, skipped and the `measures`; `intervals` of the measures; `ece` and the bins
    of the `reliability` diagram; precision, recall and f1 of each of the `classes` that occur;
    `competing_classes` as in `evaluate_model`; and `calibrated`, loss and ece at a temperature, if
    one is fitted.

    Args:
      source: what `open_labeled` returns.
      fitted_on: the split for the temperature; None fits none.

    Raises:
      InputError: the split does not exist, or no temperature fits it.
    """
    model, names = network.model, network.class_names
    fitted: dict[str, Any] = {}
    if fitted_on is not None:
        fitted = {"temperature": _temperature(network, data, fitted_on), "fitted_on": fitted_on}
    batches = scored_batches(model, network.variables, source, data)
    scores, calibrated = score_split(batches, fitted.get("temperature", 1.0))
    bins = reliability(scores)
    count = len(scores.truth)
    found = {
        "count": float(count),
        "skipped": float(len(source) - count),
        **measures(scores, model.num_classes),
        "ece": calibration_error(bins),
        "intervals": intervals(scores, model.num_classes),
        "classes": class_rows(scores, names or tuple(map(str, range(model.num_classes)))),
        "reliability": [each._asdict() for each in bins if each.images],
    }
    if competing := competing_outputs(source, data.source, model.num_classes):
        found["competing_classes"] = float(len(competing))
    if fitted:
        fitted["loss"] = measures(calibrated, model.num_classes)["loss"]
        found["calibrated"] = fitted | {"ece": calibration_error(reliability(calibrated))}
    return found


def _temperature(network: TrainedNetwork, data: DataConfig, split: str) -> float:
    source = open_labeled(data, split, network.class_names, network.model, network.origin.source)
    sample = Sample.of(source, FITTED_IMAGES)
    batches = scored_batches(network.model, network.variables, sample, data, outputs_of=source)
    return fit_temperature(batches, source.name)


def class_rows(scores: Scores, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the measures of each class that occurs in the labels or in the predictions."""
    found = class_measures(scores.truth, scores.predicted, len(names))
    return [
        {
            "class": names[at],
            "images": int(found.images[at]),
            "precision": float(found.precision[at]),
            "recall": float(found.recall[at]),
            "f1": float(found.f1[at]),
        }
        for at in range(len(names))
        if found.occurs[at]
    ]
