"""The `config.json` of image models on the hub: read it, and write it for our models."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flax.linen as nn

from flax_resnet.errors import InputError
from flax_resnet.models.variants import VARIANTS, create_model, own_model, require_built_in
from flax_resnet.weights.json_fields import Fields
from flax_resnet.weights.published import Preprocessing
from flax_resnet.weights.transformers import architecture_of, is_of_transformers

# Metadata key of a copy of config.json in a file of weights, in case the two are separated.
METADATA = "flax_resnet"
# Our own entry in config.json: arguments in which the model differs from its row.
OURS = "flax_resnet"
# The key of transformers for what the outputs are, its value where an image can have several
# classes, and our key for the probability from which it has one.
PROBLEM, SEVERAL, THRESHOLD = "problem_type", "multi_label_classification", "threshold"
# Fields about inputs, computation and training; a difference in any other field is another network.
FREE = {
    "num_classes",
    "in_channels",
    "image_size",
    "dtype",
    "norm_group",
    "zero_init_last",
    "carry_bias",
    "frozen",
    "dropout",
    "block_dropout",
    "layer_dropout",
    "drop_path",
    "drop_block",
    "remat",
    "scan_blocks",
    "parent",
    "name",
}
# timm's arguments that are redundant in `config.json`, or for training only.
_HARMLESS = {"in_chans", "img_size", "num_classes", "drop_rate", "drop_path_rate"}
# timm stores these even where they are its defaults, which are ours too.
_DEFAULTS = {"global_pool": "avg"}

# Larger values in a damaged file would exhaust the memory: by a new head, or by images.
_MOST_CLASSES, _LARGEST_SIDE = 2**20, 2**13


@dataclass(frozen=True)
class Description:
    """The model that weights belong to, as far as it is known.

    Attributes:
      architecture: a row of the table.
      num_classes: outputs of the head in the weights; None: count them.
      arguments: further arguments of `create_model`.
      preprocessing: how images were prepared in training.
      test_preprocessing: the same at the size at which the weights are most accurate.
      class_names: the name of each output; () where they are not known.
      class_descriptions: what names such as `n01440764` mean, where it is known.
      threshold: the probability from which a class counts as predicted, where an image can have
        several; None: it has one.
    """

    architecture: str | None = None
    num_classes: int | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    test_preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()
    class_descriptions: Mapping[str, str] = field(default_factory=dict)
    threshold: float | None = None

    def names_of(self, num_classes: int) -> tuple[str, ...]:
        """Return the class names for a head of this size; () where they are for another one."""
        return self.class_names if len(self.class_names) == num_classes else ()


def parse_config(config: Fields) -> Description:
    """Return the description in a `config.json` of timm's format, or of transformers' ResNets.

    Raises:
      InputError: a field has an invalid value, or arguments of timm change the architecture.
    """
    if is_of_transformers(config):
        return _of_transformers(config)
    details = config.section("pretrained_cfg")
    details = details if details.values else config
    arguments = config.section("model_args").values
    usual = {key for key, value in _DEFAULTS.items() if arguments.get(key) == value}
    strange = sorted(arguments.keys() - _HARMLESS - usual)
    if strange:
        raise InputError(
            f"{config.where} changes the architecture by timm's arguments {', '.join(strange)}: "
            "create the model with create_model(...) and load its weights with "
            "from_torch(model, read_state_dict(file))"
        )
    size = details.side("input_size", _LARGEST_SIDE)
    classes = (config if "num_classes" in config.values else details).whole(
        "num_classes", _MOST_CLASSES
    )
    ours = {key: _tuples(value) for key, value in config.section(OURS).values.items()}
    return Description(
        config.text("architecture"),
        classes,
        ours if size is None else {"image_size": size, **ours},
        _preprocessing(details, "input_size", "crop_pct"),
        _preprocessing(details, "test_input_size", "test_crop_pct"),
        _class_names(config, details, classes),
        (config if "label_descriptions" in config.values else details).texts("label_descriptions"),
        _threshold(config),
    )


def _of_transformers(config: Fields) -> Description:
    """Return the description in a `config.json` of transformers, which has no preprocessing.

    That of Microsoft's weights is the default: 224 pixels of 256, bicubic, ImageNet's colors.
    """
    labels = config.labels("id2label", _MOST_CLASSES)
    names = tuple(labels.get(number, str(number)) for number in range(len(labels)))
    images, classes = Preprocessing(), len(labels) or None
    return Description(
        architecture_of(config),
        classes,
        preprocessing=images,
        test_preprocessing=images,
        class_names=names,
        threshold=_threshold(config),
    )


def _threshold(config: Fields) -> float | None:
    """Return the threshold of a network that finds several classes; None: it finds one."""
    if config.values.get(PROBLEM) != SEVERAL:
        return None
    return config.positive(THRESHOLD) or 0.5


def _class_names(config: Fields, details: Fields, classes: int | None) -> tuple[str, ...]:
    """Read the class names where timm has them; () where they are not those of the classes."""
    places = [(fields, name) for fields in (config, details) for name in ("label_names", "labels")]
    fields, name = next((place for place in places if place[1] in place[0].values), places[0])
    labels = fields.labels(name, _MOST_CLASSES)
    if not labels or classes == 0:
        return ()
    # An object can leave classes without a name.
    count = classes if classes is not None else max(labels) + 1
    listed = isinstance(fields.values[name], list)
    if max(labels) >= count or (listed and len(labels) != count):
        warnings.warn(
            f"{config.where} has {len(labels)} {name} for {count} classes: they are not used",
            stacklevel=3,
        )
        return ()
    return tuple(labels.get(number, str(number)) for number in range(count))


def _preprocessing(details: Fields, size: str, crop: str) -> Preprocessing | None:
    """Read the preprocessing, with size and crop from these fields or else from the plain ones."""
    side = details.side(size, _LARGEST_SIDE) or details.side("input_size", _LARGEST_SIDE)
    if side is None:
        return None
    known = Preprocessing()
    return Preprocessing(
        side,
        details.positive(crop) or details.positive("crop_pct") or known.crop_fraction,
        details.text("interpolation") or known.interpolation,
        details.numbers("mean") or known.mean,
        details.numbers("std") or known.std,
    )


def make_config(
    model: Any,
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
    test_preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] = (),
    class_descriptions: Mapping[str, str] | None = None,
    threshold: float | None = None,
) -> dict[str, Any]:
    """Return the `config.json` of a model, for timm and `parse_config`.

    Args:
      architecture: default: the row that equals the model, except for fields in `FREE`.
      preprocessing: default: ImageNet's at the model's image size; with other than three channels
        a mean and a standard deviation of 0.5.
      test_preprocessing: its size and crop are for testing; default: those of `preprocessing`.
      class_names: one for each output, or none.
      class_descriptions: what these names mean, by name.
      threshold: the probability from which a class counts as predicted, where an image can have
        several; None: it has one.

    Raises:
      InputError: no row equals the model, `preprocessing` has another number of channels, or
        `class_names` another number of classes.
    """
    if class_names and len(class_names) != model.num_classes:
        raise InputError(
            f"{len(class_names)} class_names; expected one for each of the model's "
            f"{model.num_classes} classes, or none"
        )
    architecture, arguments = _find_row(model, architecture)
    channels = model.in_channels
    half = {} if channels == 3 else {"mean": (0.5,) * channels, "std": (0.5,) * channels}
    images = preprocessing or Preprocessing(model.image_size, **half)
    if {len(images.mean), len(images.std)} != {channels}:
        raise InputError(
            f"preprocessing has mean {images.mean} and std {images.std}; expected one entry in "
            f"both for each of the model's {channels} channels"
        )
    if images.image_size != model.image_size:
        arguments["image_size"] = model.image_size
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "pretrained_cfg": _pretrained_cfg(model, images, test_preprocessing or images),
    }
    if class_names:
        config["label_names"] = list(class_names)
    if class_descriptions:
        config["label_descriptions"] = dict(class_descriptions)
    if threshold is not None:
        config |= {PROBLEM: SEVERAL, THRESHOLD: threshold}
    if channels != 3:
        config["model_args"] = {"in_chans": channels}
    if arguments:
        config[OURS] = arguments
    return config


def _pretrained_cfg(model: Any, images: Preprocessing, test: Preprocessing) -> dict[str, Any]:
    found = {
        "input_size": [model.in_channels, images.image_size, images.image_size],
        "num_classes": model.num_classes,
        "crop_pct": images.crop_fraction,
        "crop_mode": "center",
        "interpolation": images.interpolation,
        "mean": list(images.mean),
        "std": list(images.std),
        "first_conv": model.first_conv,
        "classifier": model.head_name,
    }
    if test != images:
        found["test_input_size"] = [model.in_channels, test.image_size, test.image_size]
        found["test_crop_pct"] = test.crop_fraction
    return found


def _find_row(model: Any, architecture: str | None) -> tuple[str, dict[str, Any]]:
    """Return the row of a model, and the arguments in which it differs from that row."""
    require_built_in(model, "the format of the hub")
    names = VARIANTS if architecture is None else [architecture]
    rows = {name: found for name in names if (found := _differences(model, name)) is not None}
    name = min(rows, key=lambda name: len(rows[name]), default=None)
    if name is None:
        raise InputError(
            f"the model is a {type(model).__name__} and {architecture or 'every row of the table'} "
            "is not: pass the architecture= that it was created from"
        )
    if rows[name] and architecture is None:
        raise InputError(
            f"the model equals no row of the table: {name} is closest, but the model has "
            + ", ".join(f"{key}={value!r}" for key, value in rows[name].items())
            + f". Pass architecture={name!r} to store these arguments with that name; only "
            "flax_resnet can read them"
        )
    return name, rows[name]


def _differences(model: Any, name: str) -> dict[str, Any] | None:
    """Return the fields outside `FREE` that differ from a row; None if the class differs."""
    own = own_model(name)
    if own is not None and own.func is not type(model):
        return None
    row = create_model(name)
    found = _unequal_fields(model, row)
    if found and "encoder" in found:  # its name, which can be stored in JSON
        found["encoder"] = _find_row(found["encoder"], None)[0]
    return found


def _unequal_fields(model: Any, row: Any) -> dict[str, Any] | None:
    if type(row) is not type(model):
        return None
    names = {entry.name for entry in dataclasses.fields(row)} - FREE
    found = {key: getattr(model, key) for key in sorted(names)}
    return {key: value for key, value in found.items() if not _same(value, getattr(row, key))}


def _same(value: Any, other: Any) -> bool:
    """Return whether arguments are equal; networks inside networks can differ in `FREE`."""
    return (
        _unequal_fields(value, other) == {}
        if isinstance(value, nn.Module)
        else bool(value == other)
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
