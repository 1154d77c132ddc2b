"""Knowledge distillation: learning from the logits of a teacher network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError, require_known
from flax_resnet.models.layers import at_least_float32
from flax_resnet.steps.tasks.losses import cross_entropy

SIZES = ("test", "train", "student")


@dataclass(frozen=True)
class DistillConfig:
    """Settings of distillation; the teacher sees the same crops, mixed in the same way."""

    teacher: str | None = None
    """A published name, a file, a folder or a run, as `load_pretrained` accepts; None: off. Its
    classes are matched with those of the data by name, and can be more."""
    model: str | None = None
    """The teacher's architecture, for a file that does not name it."""
    key: str | None = None
    """The part of a file of the teacher's weights to take, as `load_pretrained(key=...)`."""
    size: str = "test"
    """The size to which the teacher's images are resized: test (at which it is evaluated) | train
    (at which it was trained) | student (as the student sees them; so do teachers of unknown size,
    such as files)"""
    temperature: float = 1.0
    """Both networks' logits are divided by it."""
    weight: float = 1.0
    """The teacher's weight in the loss; the labels have the rest. 1: the teacher alone
    (arXiv:2106.05237, with config.mix)."""
    hard: bool = False
    """Learn the teacher's top class instead of its probabilities (arXiv:2012.12877)."""

    def __post_init__(self) -> None:
        """Check that the values define a loss."""
        require_known("config.distill.size", self.size, SIZES)
        if self.temperature <= 0:
            raise InputError(
                f"config.distill.temperature is {self.temperature}; expected a positive number"
            )
        if not 0 < self.weight <= 1:
            raise InputError(
                f"config.distill.weight is {self.weight}; expected above 0 and at most 1"
            )


@dataclass(frozen=True)
class Teacher:
    """A network to learn from.

    Attributes:
      mean, std: of each channel, to normalize the teacher's images with.
      image_size: side to which its images are resized; None: they are not.
      outputs: the output for each class of the student; None: they have the same.
    """

    model: nn.Module
    variables: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int | None = None
    outputs: tuple[int, ...] | None = None

    def logits(
        self,
        variables: Any,
        images: Float[Array, "n h w c"],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> Float[Array, "n classes"]:
        """Return logits, in inference mode, for images that were normalized with `mean` and `std`.

        Args:
          variables: the teacher's; an argument, since `self.variables` would become constants of a
            jitted function.
        """
        if (self.mean, self.std) != (mean, std):
            spread = jnp.asarray(std, jnp.float32) / jnp.asarray(self.std, jnp.float32)
            shift = jnp.asarray(mean, jnp.float32) - jnp.asarray(self.mean, jnp.float32)
            shift /= jnp.asarray(self.std, jnp.float32)
            images = images * spread[None, None, None] + shift[None, None, None]
        if self.image_size not in (None, images.shape[1]):
            shape = (len(images), self.image_size, self.image_size, images.shape[3])
            images = jax.image.resize(images, shape, "bilinear")
        logits: Any = self.model.apply(variables, images, train=False)
        if self.outputs is not None:
            logits = logits[:, jnp.asarray(self.outputs)]
        return jax.lax.stop_gradient(logits)


def distillation(
    logits: Float[Array, "*n classes"],
    teacher: Float[Array, "*n classes"],
    temperature: float = 1.0,
    hard: bool = False,
) -> Float[Array, "*n"]:
    """Return the distillation loss of each example.

    That is KL(teacher, student) of the probabilities at `temperature`, times its square, so that
    gradients keep their size (arXiv:1503.02531). If `hard`, it is the cross-entropy with the
    teacher's top class, at temperature 1.
    """
    if hard:
        return cross_entropy(logits, teacher.argmax(-1))
    found = jax.nn.log_softmax(at_least_float32(logits) / temperature)
    wanted = jax.nn.log_softmax(at_least_float32(teacher) / temperature)
    return temperature**2 * (jnp.exp(wanted) * (wanted - found)).sum(-1)


def distilled_loss(
    logits: Float[Array, "n classes"],
    batch: Mapping[str, jax.Array],
    *,
    loss: Callable[..., tuple[jax.Array, jax.Array]],
    config: DistillConfig,
) -> tuple[jax.Array, jax.Array]:
    """Return the weighted sum of `loss` and the distillation loss, and the accuracy."""
    value, accuracy = loss(logits, batch)
    taught = distillation(logits, batch["teacher"], config.temperature, config.hard).mean()
    if config.weight == 1:
        return taught, accuracy
    return config.weight * taught + (1 - config.weight) * value, accuracy
