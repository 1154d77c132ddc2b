"""A running session of training: evaluation, checkpoints and reports between steps."""

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax.traverse_util import flatten_dict

from flax_resnet.onednn.choice import ONEDNN
from flax_resnet.steps.averages import PREFIXES, shown_average
from flax_resnet.steps.mesh import replicated
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.table import Task, task_of
from flax_resnet.training.checkpoints import store
from flax_resnet.training.cluster.agreement import StopRequest, from_first
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.early_stopping import stopping_step
from flax_resnet.training.evaluation import evaluate
from flax_resnet.training.logging.display import Display
from flax_resnet.training.logging.writers import Writers
from flax_resnet.training.precise_norms import Measure, make_measure, measured_norms, without_start
from flax_resnet.training.runs import evaluate_run, restore
from flax_resnet.training.setup import Setup
from flax_resnet.training.tracing import Tracer

# After so many updates a running statistic holds less than 1e-8 of its initial value.
_FORGOTTEN = 175
# The position of a run that has not begun; see `Session.save`.
FIRST_POSITION = {"next_batch": 0, "log": None, "evaluation_due": False}


@dataclass(frozen=True)
class Session:
    """The parts of a running session of training."""

    setup: Setup
    workdir: Path
    manager: ocp.CheckpointManager
    writers: Writers
    display: Display
    request: StopRequest
    tracer: Tracer

    @property
    def config(self) -> TrainConfig:
        """Return the settings."""
        return self.setup.config

    @property
    def task(self) -> Task:
        """Return the task of the run."""
        return task_of(self.config)

    def greet(self, start: int) -> None:
        """Print the model, the data and the devices."""
        setup, data = self.setup, self.config.data
        kernels = " with oneDNN" if self.config.cpu_kernels == ONEDNN else ""
        self.display.say(
            f"{self.config.model.name} on {setup.train_source.name}: "
            f"{len(setup.train_source):,} images, {self.config.model.num_classes} classes, "
            f"{setup.steps:,} steps of {data.batch_size} on {setup.mesh.size} "
            f"{setup.mesh.devices.flat[0].platform} device(s){kernels}, run in {self.workdir}"
        )
        if start:
            self.display.say(f"continuing from step {start}")

    def show_images(self, batch: Mapping[str, Any]) -> None:
        """Log images of a batch, unless they are made on the devices."""
        shown = self.config.logging.images
        if shown and "image" in batch:
            self.writers.images(0, batch["image"][:shown])

    @property
    def evaluation_interval(self) -> float:
        """Return the number of steps between evaluations."""
        return max(self.config.eval_every_epochs * self.setup.steps_per_epoch, 1.0)

    @functools.cached_property
    def was_evaluated(self) -> bool:
        """Return whether the run was evaluated before, such as one that is made longer."""
        return any(self.manager.metrics(step) for step in self.manager.all_steps())

    def is_due(self, step: int) -> tuple[bool, bool]:
        """Return whether an evaluation, and whether a checkpoint, is due after `step`."""
        setup, interval = self.setup, self.evaluation_interval
        evaluates = step == setup.steps or int(step / interval) > int((step - 1) / interval)
        keep = self.config.checkpoint
        return evaluates, any(
            every is not None and step % every == 0
            for every in (keep.every_steps, keep.keep_every_steps)
        )

    @functools.cached_property
    def eval_step(self) -> Callable[..., Any]:
        """Return the jitted evaluation of a batch."""
        data = self.config.data
        return make_eval_step(
            self.setup.model,
            self.setup.mesh,
            mean=data.mean,
            std=data.std,
            task=self.task,
            deterministic=self.config.deterministic,
            flip=data.eval_flip,
        )

    @functools.cached_property
    def measure(self) -> Measure:
        """Return the jitted measurement of a batch's statistics."""
        config = self.config
        return make_measure(
            self.setup.model,
            self.setup.mesh,
            mean=config.data.mean,
            std=config.data.std,
            seed=config.seed,
            deterministic=config.deterministic,
        )

    def prepare_evaluation(self, state: TrainState, step: int) -> TrainState:
        """Return the state to evaluate and save, with batch statistics that fit its parameters.

        A stop waits for this, so that metrics belong to the state in the checkpoint.
        """
        if not jax.tree.leaves(state.variables["batch_stats"]):
            return state
        if not self.config.average.precise_batches:
            return self._without_start(state, step)
        average = shown_average(state.average)
        several = [state.variables] + ([] if average is None else [average.variables])
        found = measured_norms(self.setup, self.measure, several, step)
        if average is None:
            return state.replace(variables=found[0])
        return state.replace(variables=found[0], average=average.replace(variables=found[1]))

    def _without_start(self, state: TrainState, step: int) -> TrainState:
        """Return the state with statistics of norms that have forgotten their initial values.

        Only the first evaluation needs it, and only if it comes early: training goes on from there.
        """
        updates = step - int(state.guard.skipped)
        early = 0 < updates < _FORGOTTEN and self.config.model.pretrained is None
        if not early or int((step - 1) / self.evaluation_interval) > 0 or self.was_evaluated:
            return state
        everywhere = replicated(self.setup.mesh)
        correct = jax.jit(without_start, static_argnums=1, out_shardings=everywhere)
        stats = correct(state.variables["batch_stats"], updates)
        return state.replace(variables=state.variables | {"batch_stats": stats})

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Return the metrics on the evaluation split; empty if a stop interrupts it."""
        average = shown_average(state.average)
        others = {} if average is None else {f"{average.kind}_": average.variables}
        source, data = self.setup.eval_source, self.config.data
        self.display.evaluating(data.eval_split, -(-len(source) // data.eval_batch_size))
        metrics = evaluate(
            self.eval_step,
            state.variables,
            source,
            data,
            self.setup.mesh,
            self.display.evaluated_batch,
            self.task,
            self.request,
            others,
            self.setup.evaluation_device_data,
        )
        if metrics:
            self._report("eval", data.eval_split, int(state.step), metrics)
            self._show_parameters(state)
        else:
            self.display.evaluated("the evaluation is postponed to the next start")
        return metrics

    def stops_early(self) -> bool:
        """Return whether the evaluations so far end the run before its last step, and say so."""
        config = self.config.early_stopping
        if config.patience is None:
            return False
        best = stopping_step(config, map(json.loads, self.writers.history))
        # The rows are in the first process alone.
        found = from_first("" if best is None else str(best))
        if found:
            self.display.say(
                f"stopped early: {config.patience} evaluations without a better one than that of "
                f"step {found}; a larger --config.early_stopping.patience continues"
            )
        return bool(found)

    def test(self) -> None:
        """Evaluate the best checkpoint on the test split; a stop interrupts it."""
        setup, parts = self.setup, self.setup.parts
        best = restore(self.workdir, "best", setup.mesh, model=parts.model)
        metrics = evaluate_run(best, mesh=setup.mesh, request=self.request, source=parts.source)
        if metrics:
            split = self.config.data.test_split or ""
            self._report("test", f"{split} (best checkpoint)", best.step, metrics)

    def save(
        self, state: TrainState, step: int, metrics: dict[str, float], log: dict[str, Any]
    ) -> None:
        """Start writing a checkpoint.

        Args:
          metrics: those of the evaluation at this step, if there was one.
          log: the state of the log.
        """
        evaluates, _ = self.is_due(step)
        position = {"next_batch": step, "log": log, "evaluation_due": evaluates and not metrics}
        run = {
            "config": self.config.to_dict(),
            "class_names": list(self.setup.train_source.class_names),
            "position": position,
        }
        store.save(self.manager, state, run, self.writers.history, metrics)

    def _show_parameters(self, state: TrainState) -> None:
        if self.config.logging.histograms:
            parameters = flatten_dict(state.variables["params"], sep=".")
            self.writers.histograms(int(state.step), jax.device_get(parameters))

    def _report(self, kind: str, split: str, step: int, metrics: dict[str, float]) -> None:
        self.writers.write(kind, step, metrics)
        skipped = f", {metrics['skipped']:.0f} skipped" if metrics["skipped"] else ""
        line = self.task.shown_for(len(self.setup.train_source.class_names)).line
        figures = line.format_map(metrics)
        for prefix in PREFIXES:
            keys = [key for key in metrics if key.startswith(prefix)]
            averaged = {key.removeprefix(prefix): metrics[key] for key in keys}
            if averaged:
                figures += f"  {prefix[:-1]}: {line.format_map(averaged)}"
        self.display.evaluated(
            f"step {step}  {split}: {figures}  ({metrics['count']:.0f} images{skipped})"
        )
