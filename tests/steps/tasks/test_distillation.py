"""Distillation: the divergence by its definition, and the images that the teacher sees."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.steps.gradient import make_gradient, normalize, prepare_batch
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.tasks.classification import classification_loss
from flax_resnet.steps.tasks.distillation import (
    DistillConfig,
    Teacher,
    distillation,
    distilled_loss,
)

KEYS = jax.random.split(jax.random.key(0))
LOGITS, TAUGHT = (3 * jax.random.normal(key, (6, 4)) for key in KEYS)
BATCH = {"label": jnp.asarray([0, 1, 2, 3, 0, 1]), "teacher": TAUGHT}


def probabilities(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_the_divergence_times_the_squared_temperature(temperature: float) -> None:
    wanted, found = (probabilities(logits / temperature) for logits in (TAUGHT, LOGITS))
    expected = temperature**2 * (wanted * np.log(wanted / found)).sum(-1)
    losses = distillation(LOGITS, TAUGHT, temperature)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    np.testing.assert_allclose(distillation(TAUGHT, TAUGHT, temperature), 0, atol=1e-6)


def test_gradients_keep_their_size_at_high_temperatures() -> None:
    def gradient(temperature: float) -> jax.Array:
        return jax.grad(lambda x: distillation(x, TAUGHT, temperature).sum())(LOGITS)

    # In the limit they are the differences of the centered logits over the classes (Hinton et al.).
    centered = [x - x.mean(-1, keepdims=True) for x in (LOGITS, TAUGHT)]
    np.testing.assert_allclose(gradient(1e3), (centered[0] - centered[1]) / 4, atol=0.02)


def test_a_hard_teacher_gives_labels() -> None:
    classes = TAUGHT.argmax(-1)
    expected = -np.log(probabilities(LOGITS)[np.arange(6), classes])
    np.testing.assert_allclose(distillation(LOGITS, TAUGHT, 5.0, hard=True), expected, rtol=1e-5)


def test_labels_have_the_remaining_weight() -> None:
    def value(**settings: float) -> float:
        loss = functools.partial(classification_loss, label_smoothing=0.1)
        return float(distilled_loss(LOGITS, BATCH, loss=loss, config=DistillConfig(**settings))[0])

    labels = float(classification_loss(LOGITS, BATCH, 0.1)[0])
    taught = float(distillation(LOGITS, TAUGHT, 2.0).mean())
    assert value(temperature=2.0) == pytest.approx(taught, rel=1e-6)
    expected = 0.3 * taught + 0.7 * labels
    assert value(temperature=2.0, weight=0.3) == pytest.approx(expected, rel=1e-6)


class Brightness(nn.Module):
    """Two logits from the mean of each image, times one weight."""

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        del train
        weight = self.param("weight", nn.initializers.ones, ())
        brightness = weight * images.mean((1, 2, 3))
        return jnp.stack([brightness, -brightness], axis=-1)


@pytest.mark.slow
def test_the_teacher_sees_the_same_mixed_images_with_its_own_normalization() -> None:
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (16, 6, 6, 3), np.uint8),
        "label": rng.integers(0, 2, 16, np.int32),
    }
    ours = dict(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))
    own = dict(mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.25))
    mixing, key = MixConfig(0.4, 1.0, per="element"), jax.random.key(0)
    model = Brightness()
    variables = {"params": {"weight": jnp.float32(2.0)}}
    teacher = Teacher(model, variables, **own)
    seen = []

    def loss(logits: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        seen.append(batch["teacher"])
        return (logits * batch["teacher"]).mean(), jnp.float32(0)

    gradient = make_gradient(model, loss, mixing=mixing, teacher=teacher, **ours)
    ones = {"params": {"weight": jnp.float32(1.0)}, "batch_stats": {}}
    grads, _ = gradient(ones, batch, key, None, variables)
    expected = model.apply(variables, prepare_batch(batch, key, mixing=mixing, **own)["image"])
    np.testing.assert_allclose(seen[0], expected, atol=1e-5)
    # The student's gradient treats the teacher's logits as constants.
    logits = model.apply(ones, prepare_batch(batch, key, mixing=mixing, **ours)["image"])
    np.testing.assert_allclose(grads["weight"], (logits * expected).mean(), rtol=1e-5)
    assert not np.allclose(expected, model.apply(variables, normalize(batch["image"], **own)))


def test_the_teachers_weights_are_arguments_without_gradient() -> None:
    images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    teacher = Teacher(Brightness(), None, (0.5,), (0.5,))

    def total(weight: jax.Array) -> jax.Array:
        variables = {"params": {"weight": weight}}
        return teacher.logits(variables, images, (0.5,), (0.5,))[:, 0].sum()

    assert float(jax.jit(total)(jnp.float32(2.0))) != 0
    assert float(jax.grad(total)(jnp.float32(2.0))) == 0


def test_the_teachers_images_are_resized_to_its_own_size() -> None:
    class Corner(nn.Module):
        """Returns the number of pixels and the value at a corner as logits."""

        def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
            del train
            return jnp.stack([jnp.full(len(images), images.shape[1] + 0.0), images[:, 0, 0, 0]], 1)

    images = jnp.arange(4.0)[:, None, None, None] * jnp.ones((1, 6, 6, 3))
    for size, pixels in ((None, 6), (6, 6), (8, 8), (3, 3)):
        teacher = Teacher(Corner(), {}, (0.5,), (0.5,), size)
        logits = teacher.logits({}, images, (0.5,), (0.5,))
        np.testing.assert_allclose(logits, [[pixels, value] for value in range(4)], atol=1e-6)
