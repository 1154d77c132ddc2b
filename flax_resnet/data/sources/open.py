"""Open a source by its name."""

from __future__ import annotations

from collections.abc import Callable

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.csv import open_csv
from flax_resnet.data.sources.decoded import keep_decoded
from flax_resnet.data.sources.digits import open_digits
from flax_resnet.data.sources.folder import open_folder
from flax_resnet.data.sources.masks import open_masks
from flax_resnet.data.sources.source import Source
from flax_resnet.data.sources.synthetic import open_synthetic
from flax_resnet.data.sources.tfds import open_tfds
from flax_resnet.errors import InputError, expected_names

# Prefix of `config.source` -> function of (config, rest of the name, split).
OPENERS: dict[str, Callable[[DataConfig, str, str], Source]] = {
    "csv": open_csv,
    "digits": open_digits,
    "folder": open_folder,
    "masks": open_masks,
    "synthetic": open_synthetic,
    "tfds": open_tfds,
}


def open_source(config: DataConfig, split: str) -> Source:
    """Return a split, or a slice such as "train[:90%]", of the config's source."""
    prefix, _, rest = config.source.partition(":")
    if prefix not in OPENERS:
        raise InputError(
            f"config.data.source is {config.source!r}: {expected_names(prefix, OPENERS)} "
            "The forms are digits, tfds:NAME, folder:PATH, csv:PATH, masks:PATH and "
            "synthetic:CLASSES."
        )
    source = OPENERS[prefix](config, rest, split)
    if len(source) == 0:
        raise InputError(f"{source.name} has no examples; expected at least one. Widen the slice.")
    # Data sets on the devices are decoded only once anyway.
    return source if config.on_device else keep_decoded(source, config.channels)
