"""Learning from another network's logits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flax_resnet.errors import InputError
from flax_resnet.models.layers import at_least_float32
from flax_resnet.steps.tasks.losses import cross_entropy


@dataclass(frozen=True)
class DistillConfig:
    """Choose a network to learn from; it sees the very same images, mixed as they are."""

    teacher: str | None = None
    """A published name, a file, a folder or a run, as `load_pretrained` takes it; None: none. Its
    classes have to be those of the data, in the same order."""
    model: str | None = None
    """Its network, for a file that does not name it."""
    temperature: float = 1.0
    """What the logits of both are divided by."""
    weight: float = 1.0
    """Of the teacher in the loss; the labels have the rest. 1: the teacher alone (arXiv:2106.05237,
    with config.mix)."""
    hard: bool = False
    """Learn the teacher's first class instead of its probabilities (arXiv:2012.12877)."""

    def __post_init__(self) -> None:
        """Refuse values that make no loss."""
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
      mean, std: what it wants images normalised with.
    """

    model: nn.Module
    variables: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def logits(
        self,
        variables: Any,
        images: Float[Array, "n h w c"],
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> Float[Array, "n classes"]:
        """Return its logits, in inference mode, for images normalised with `mean` and `std`.

        Args:
          variables: its own; an argument, for those of the dataclass would become constants of a
            jitted function.
        """
        if (self.mean, self.std) != (mean, std):
            spread = jnp.asarray(std, jnp.float32) / jnp.asarray(self.std, jnp.float32)
            shift = jnp.asarray(mean, jnp.float32) - jnp.asarray(self.mean, jnp.float32)
            shift /= jnp.asarray(self.std, jnp.float32)
            images = images * spread[None, None, None] + shift[None, None, None]
        logits: Any = self.model.apply(variables, images, train=False)
        return jax.lax.stop_gradient(logits)


def distillation(
    logits: Float[Array, "*n classes"],
    teacher: Float[Array, "*n classes"],
    temperature: float = 1.0,
    hard: bool = False,
) -> Float[Array, "*n"]:
    """Return how far logits are from those of a teacher.

    That is the divergence KL(teacher, student) of the probabilities at a temperature, times its
    square, so that gradients keep their size (arXiv:1503.02531); or, `hard`, the cross-entropy with
    the teacher's first class, at temperature 1.
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
    """Return a loss on labels mixed with that on the batch's `teacher`, and the accuracy."""
    value, accuracy = loss(logits, batch)
    taught = distillation(logits, batch["teacher"], config.temperature, config.hard).mean()
    if config.weight == 1:
        return taught, accuracy
    return config.weight * taught + (1 - config.weight) * value, accuracy
