"""Train the small networks of experiments in memory, from several seeds, and keep the curves."""

import contextlib
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from flax_resnet.data import BatchIterator, train_batches
from flax_resnet.lab.datasets import first_images, open_dataset
from flax_resnet.lab.settings import Training
from flax_resnet.models import Network
from flax_resnet.steps.mesh import data_mesh, device_rows, put_batch, replicated
from flax_resnet.steps.state import TrainState, make_state
from flax_resnet.steps.step import StepParts, make_eval_step, make_train_step
from flax_resnet.steps.updates.config import OptimizerConfig, ScheduleConfig
from flax_resnet.steps.updates.optimizers import make_optimizer
from flax_resnet.steps.updates.schedules import make_schedule
from flax_resnet.training.evaluation import evaluate

Variables = dict[str, Any]
MEANS = ("loss", "accuracy")


@dataclass(frozen=True)
class Fitted:
    """A trained network and the curves of its training, one value per epoch.

    Attributes:
      train_loss, train_error: means over the epoch's batches, during training.
      test_loss, test_error: after each epoch, in inference mode.
      watched: the values of `watch` before the first epoch and after each epoch.
    """

    variables: Variables
    train_loss: np.ndarray
    train_error: np.ndarray
    test_loss: np.ndarray
    test_error: np.ndarray
    watched: np.ndarray


class Fitter:
    """Train a network on the data of `settings`; its steps are compiled once for all seeds.

    The optimizer is SGD with momentum, with a warm-up and a cosine schedule. A seed determines the
    initial weights and the order of the images; dropout is the same for all seeds. One device is
    used, since the networks are small and many.
    """

    def __init__(self, model: Network, settings: Training) -> None:
        self.model, self.settings = model, settings
        self.data = open_dataset(settings.data_config())
        config = self.data.config
        self.steps_per_epoch = max(1, round(len(self.data.train) / settings.batch_size))
        self.steps = settings.epochs * self.steps_per_epoch
        self.mesh = data_mesh(jax.devices()[:1])
        schedule = ScheduleConfig(learning_rate=settings.learning_rate, warmup=settings.warmup)
        rate = make_schedule(schedule, self.steps, self.steps_per_epoch)
        optimizer = make_optimizer(OptimizerConfig(weight_decay=settings.weight_decay), rate)
        normalization: dict[str, Any] = dict(mean=config.mean, std=config.std)
        parts = StepParts(model, optimizer, rate, **normalization)
        self.train_step = make_train_step(parts, self.mesh)
        self.eval_step = make_eval_step(model, self.mesh, **normalization)
        shape = (config.image_size, config.image_size, config.channels)
        # `init_state` would compile once per seed; here the seed is an argument.
        on_cpu = jax.default_backend() == "cpu"
        self._start = jax.jit(
            functools.partial(make_state, model, optimizer, shape),
            out_shardings=replicated(self.mesh),
            compiler_options={"xla_backend_optimization_level": 0} if on_cpu else None,
        )

    def start(self, seed: int) -> TrainState:
        """Return the state before the first step."""
        return self._start(jax.random.key(seed))

    def fit(self, seed: int, watch: Callable[[Variables], Any] = lambda variables: ()) -> Fitted:
        """Train from one seed; `watch` is applied to the variables before and after each epoch."""
        state, rows = self.start(seed), []
        watched = [np.asarray(watch(state.variables))]
        with self._batches(seed, self.steps) as batches:
            for _ in range(self.settings.epochs):
                state, seen = self._steps(state, batches, self.steps_per_epoch)
                tested = self.test(state.variables)
                loss, accuracy = (np.mean([row[key] for row in seen]) for key in MEANS)
                rows.append((loss, 1 - accuracy, tested["loss"], 1 - tested["top1"]))
                watched.append(np.asarray(watch(state.variables)))
        losses, errors, test_losses, test_errors = np.asarray(rows, np.float64).T
        return Fitted(
            state.variables, losses, errors, test_losses, test_errors, np.asarray(watched)
        )

    def first_losses(self, seed: int, steps: int) -> np.ndarray:
        """Return the training losses of the first steps, (steps,)."""
        with self._batches(seed, steps) as batches:
            _, seen = self._steps(self.start(seed), batches, steps)
        return np.asarray([row["loss"] for row in seen])

    def _batches(self, seed: int, count: int) -> contextlib.closing[BatchIterator]:
        config = self.data.config
        return contextlib.closing(
            train_batches(self.data.train, config, seed=seed, num_batches=count)
        )

    def _steps(
        self, state: TrainState, batches: BatchIterator, count: int
    ) -> tuple[TrainState, list[Any]]:
        seen = []
        for batch in itertools.islice(batches, count):
            state, metrics = self.train_step(state, put_batch(device_rows(batch), self.mesh))
            seen.append(metrics)
        return state, jax.device_get(seen)

    def test(self, variables: Variables) -> dict[str, float]:
        """Return loss and top1 on the test images."""
        return evaluate(self.eval_step, variables, self.data.test, self.data.config, self.mesh)

    def first_images(self, count: int, split: str = "train") -> tuple[jax.Array, jax.Array]:
        """Return the first images of `train` or `test`, normalized, and their labels."""
        return first_images(self.data, count, split)
