"""Training on classes of different sizes: weights of classes, and what they need from the data."""

import numpy as np

from flax_resnet.data import Source
from flax_resnet.data.sources.labels import class_counts
from flax_resnet.errors import InputError, shortened
from flax_resnet.steps.tasks.classification import BALANCED, EQUAL, parse_class_weights
from flax_resnet.training.config import TrainConfig


def weights_of_classes(config: TrainConfig, source: Source) -> tuple[float, ...]:
    """Return the weight of each output's class in the loss; () if all have the same.

    Their mean over the training images, as they are sampled, is 1. Outputs that the data has no
    class for have the weight 1.
    """
    if config.class_weights == EQUAL:
        return ()
    counts = class_counts(source)
    present = counts > 0
    if config.class_weights == BALANCED:
        weights = np.ones(len(counts))
        weights[present] = counts.sum() / (present.sum() * counts[present])
    else:
        weights = np.array(parse_class_weights(config.class_weights))
        shares = present.astype(float) if config.data.sampling == BALANCED else counts
        weights /= np.average(weights, weights=shares)
    extra = (config.model.num_classes or len(weights)) - len(weights)
    return (*weights.tolist(), *[1.0] * extra)


def check_balance(config: TrainConfig, source: Source) -> None:
    """Raise `InputError` if weights do not fit the classes, or balance what is balanced already."""
    given = parse_class_weights(config.class_weights)
    if given and len(given) != source.num_classes:
        raise InputError(
            f"config.class_weights has {len(given)} numbers; expected one for each of the "
            f"{source.num_classes} classes of {source.name}: {shortened(source.class_names)}"
        )
    balanced = [
        name
        for name, value in (
            ("class_weights", config.class_weights),
            ("data.sampling", config.data.sampling),
        )
        if value == BALANCED
    ]
    if not (given or balanced):
        return
    counts = class_counts(source)
    present = counts[counts > 0]
    if balanced and present.max() == present.min():
        raise InputError(
            f"config.{balanced[0]} is 'balanced', but every class of {source.name} has "
            f"{present[0]:,} images already, so that it does nothing; expected the default"
        )
    if given and not np.any(counts * given):
        raise InputError(
            f"config.class_weights gives every image of {source.name} the weight 0; expected a "
            "positive number for a class that has images"
        )
