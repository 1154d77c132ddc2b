"""User-defined parts of a run, given as objects in place of what settings describe."""

import io
from dataclasses import dataclass
from typing import Any

import cloudpickle
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from flax_resnet.data import Source
from flax_resnet.data.images.transforms import find_transform
from flax_resnet.data.sources.open import OWN, is_own_source, open_source, usable
from flax_resnet.data.sources.own import open_given, own_name
from flax_resnet.errors import InputError
from flax_resnet.models.variants import own_model
from flax_resnet.steps.tasks.classification import own_loss_named
from flax_resnet.steps.updates.optimizers import own_optimizer
from flax_resnet.training.config import ModelConfig, TrainConfig
from flax_resnet.training.fingerprint import digest_of_examples, fingerprint
from flax_resnet.training.parsing import parse

# The settings that each part replaces.
_REPLACED = {
    "source": ("data.source",),
    "model": ("model",),
    "loss": ("loss", "label_smoothing", "class_weights", "target_threshold", "dice_weight"),
    "optimizer": ("optimizer",),
    "transform": ("data.transform",),
}


@dataclass(frozen=True)
class Parts:
    """Parts of a run that replace what its settings describe; see `train`."""

    source: Any = None
    model: Any = None
    loss: Any = None
    optimizer: Any = None
    transform: Any = None
    writer: Any = None

    @property
    def whole_optimizer(self) -> bool:
        """Return whether the optimizer is given together with its learning rate."""
        return isinstance(self.optimizer, optax.GradientTransformation)

    def settle(self, config: TrainConfig) -> TrainConfig:
        """Return the settings with the names of these parts in place of what they replace.

        Raises:
          InputError: a setting is changed that these parts replace, or a part cannot be used.
        """
        classes = config.model.num_classes
        plain = TrainConfig(model=ModelConfig(num_classes=classes))
        for part, settings in _REPLACED.items():
            if getattr(self, part) is not None:
                for name in settings:
                    _require_default(part, name, config, plain)
        if self.whole_optimizer:
            _require_default("optimizer", "schedule", config, plain)
        elif self.optimizer is not None and not callable(self.optimizer):
            raise InputError(
                f"optimizer is {self.optimizer!r}; expected an optax transformation, or a function "
                "of a learning rate schedule that returns one"
            )
        for part in ("loss", "transform"):
            if (found := getattr(self, part)) is not None and not callable(found):
                raise InputError(f"{part} is {found!r}; expected a function")
        if self.transform is not None and (config.data.on_device or config.task == "segmentation"):
            raise InputError(
                "transform= changes single images that the host loads; expected "
                "config.task='classification' and config.data.on_device=False"
            )
        if self.source is None and self.model is None:
            return config
        values = config.to_dict()
        if self.source is not None:
            values["data"] |= {"source": own_name(self.source)}
        if self.model is not None:
            _check_model(self.model)
            values["model"] = {"name": f"{OWN}:{type(self.model).__name__}", "num_classes": classes}
        return parse(values)

    def make_optimizer(self, rate: optax.Schedule) -> optax.GradientTransformation | None:
        """Return the given optimizer, made of the schedule if it takes one; None if none is given.

        Raises:
          InputError: the function makes something else.
        """
        if self.optimizer is None or self.whole_optimizer:
            return self.optimizer
        made = self.optimizer(rate)
        if not isinstance(made, optax.GradientTransformation):
            raise InputError(f"optimizer returns {made!r}; expected an optax transformation")
        return made

    def open_source(self, config: TrainConfig, split: str) -> Source:
        """Return a split of the given data, or else of those that the settings name."""
        data = config.data
        if self.source is None:
            return open_source(data, split)
        return usable(open_given(self.source, split, data.channels, config.model.num_classes), data)


def _require_default(part: str, name: str, config: Any, plain: Any) -> None:
    for key in name.split("."):
        config, plain = getattr(config, key), getattr(plain, key)
    if config != plain:
        raise InputError(
            f"config.{name} is {config!r}, but {part}= replaces it; expected the default, {plain!r}"
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model is {model!r}; expected a Linen module, such as MyNetwork(num_classes=10)"
        )
    if not isinstance(getattr(model, "num_classes", None), int):
        raise InputError(
            f"{type(model).__name__} has no number num_classes; expected a field of this name, "
            "with the number of its logits"
        )


def check_own_model(model: Any, config: TrainConfig) -> None:
    """Raise `InputError` unless a user-defined network takes the images and gives its logits."""
    name, size = type(model).__name__, config.data.image_size
    images = jax.ShapeDtypeStruct((1, size, size, config.data.channels), jnp.float32)
    for setting, found, needs in (
        ("model.dtype", config.model.dtype != "float32", "dtype"),
        ("freeze_norms", config.freeze_norms is not None, "frozen"),
    ):
        if found and not hasattr(model, needs):
            raise InputError(
                f"config.{setting} has no effect on the network {name}, which has no field "
                f"{needs}; expected the default"
            )

    def train(variables: Any, images: jax.Array, key: jax.Array) -> Any:
        return model.apply(
            variables, images, train=True, mutable=["batch_stats"], rngs={"dropout": key}
        )

    try:
        key = jax.eval_shape(jax.random.key, 0)
        variables = jax.eval_shape(model.init, key, images)
        logits, _ = jax.eval_shape(train, variables, images, key)
    except InputError:
        raise
    except Exception as error:  # whatever a network raises
        raise InputError(
            f"the network {name} cannot be called as network(images, train=True) with images "
            f"{images.shape} ({type(error).__name__}: {str(error).strip():.300}); expected a call "
            "that takes float32 NHWC images and train, which is False by default"
        ) from error
    if others := sorted(variables.keys() - {"params", "batch_stats"}):
        raise InputError(
            f"the network {name} has the collections {', '.join(others)}; expected only params and "
            "batch_stats, which a run trains and saves"
        )
    shape, kind = getattr(logits, "shape", None), getattr(logits, "dtype", type(logits))
    is_logits = shape == (1, model.num_classes) and jnp.issubdtype(kind, jnp.floating)
    if not is_logits:
        raise InputError(
            f"the network {name} returns {kind} {shape} for images {images.shape}; expected logits "
            f"(1, {model.num_classes}), one for each of its num_classes"
        )


def check_workers(workers: int, **parts: Any) -> None:
    """Raise `InputError` if user-defined parts cannot be sent to worker processes."""
    for name, part in parts.items():
        if part is None or workers == 0:
            continue
        try:
            cloudpickle.Pickler(_Nowhere()).dump(part)  # as Grain does
        except Exception as error:  # whatever an object raises
            raise InputError(
                f"the {name} cannot be sent to worker processes ({type(error).__name__}: {error}): "
                "set config.data.workers=0 for threads, or open files in [i], not before"
            ) from error


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        """Return the number of bytes."""
        return memoryview(data).nbytes


def fingerprints(
    config: TrainConfig, parts: Parts, train_source: Source, eval_source: Source
) -> dict[str, str]:
    """Return the fingerprints of a run's user-defined parts, given or registered; {} without any.

    Data are told by their number, their classes and a few of their examples, everything else by
    its code and its values. A writer does not affect what is computed.
    """
    own: dict[str, Any] = {
        "model": parts.model or own_model(config.model.name),
        "loss": parts.loss or own_loss_named(config.loss),
        "optimizer": parts.optimizer or own_optimizer(config.optimizer.name),
        "transform": parts.transform or find_transform(config.data),
    }
    found = {name: fingerprint(part) for name, part in own.items() if part is not None}
    if is_own_source(config.data.source):
        found["source"] = digest_of_examples(train_source)
        found["evaluation source"] = digest_of_examples(eval_source)
    return found
