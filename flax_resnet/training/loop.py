"""The run: restore or start, step, evaluate, save, until the end or a signal."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flax_resnet.data import train_batches
from flax_resnet.training import checkpoints
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.display import Display
from flax_resnet.training.evaluation import evaluate
from flax_resnet.training.interrupts import Stopped, StopRequest, stop_requests
from flax_resnet.training.log import TrainingLog
from flax_resnet.training.mesh import device_rows, put_batch
from flax_resnet.training.parsing import parse
from flax_resnet.training.pretrained import starting_variables
from flax_resnet.training.runs import Run, evaluate_run, restore
from flax_resnet.training.setup import Setup, prepare_run
from flax_resnet.training.state import TrainState, init_state
from flax_resnet.training.step import make_eval_step, make_train_step
from flax_resnet.training.tasks import TASKS, Task
from flax_resnet.training.workdir import claim_workdir
from flax_resnet.training.writers import Writers


@dataclass(frozen=True)
class _Session:
    """A run while it goes."""

    setup: Setup
    workdir: Path
    manager: ocp.CheckpointManager
    writers: Writers
    display: Display

    @property
    def config(self) -> TrainConfig:
        return self.setup.config

    @property
    def task(self) -> Task:
        return TASKS[self.config.task]


def train(
    config: ConfigDict | Mapping[str, Any] | TrainConfig,
    workdir: str | Path,
    *,
    stop_after: int | None = None,
    allow_config_change: bool = False,
    mesh: Mesh | None = None,
) -> Run:
    """Train what `config` describes, or go on with the run that is in `workdir`.

    A run that was stopped goes on from its newest checkpoint with the batches that it would have
    seen next. SIGINT and SIGTERM finish the step, save, and leave through `Stopped`.

    Args:
      stop_after: stop and save after this step, as if interrupted.
      allow_config_change: go on although the folder's run had other settings.
      mesh: the devices to train on; None takes all.

    Returns:
      The run at its last step; `flax_resnet.restore(workdir)` gives the best one.

    Raises:
      InputError: settings, data or folder cannot be used as they are.
      Stopped: a signal asked for it; the newest checkpoint holds everything.
    """
    setup, workdir = prepare_run(parse(config), mesh), Path(workdir)
    main_process = jax.process_index() == 0
    claim_workdir(workdir, setup.config, allow_config_change)
    keep = setup.config.checkpoint
    manager = checkpoints.open_checkpoints(
        workdir, keep_latest=keep.keep_latest, keep_best=keep.keep_best, write=True
    )
    with manager, stop_requests() as request:
        state, start = _start(setup, manager)
        writers = Writers(workdir, start, main_process)
        display = Display(setup.steps, start, main_process)
        session = _Session(setup, workdir, manager, writers, display)
        try:
            _greet(session, start)
            last = min(setup.steps, stop_after or setup.steps)
            run = _steps(session, state, start, last, request)
            manager.wait_until_finished()
            if run.step == setup.steps and setup.config.test_when_done:
                _test(session)
        finally:
            display.close()
            writers.close()
    if request.signal is not None:
        display.say(f"stopped at step {run.step}; the same command goes on from there")
        raise Stopped(128 + request.signal)
    return run


def _start(setup: Setup, manager: ocp.CheckpointManager) -> tuple[TrainState, int]:
    """Return the first state, or the newest checkpoint's, and the number of batches seen."""
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    state = init_state(setup.model, setup.optimizer, setup.config.seed, shape, setup.mesh)
    newest = manager.latest_step()
    if newest is None:
        if setup.config.model.pretrained is not None:
            state = state.replace(variables=starting_variables(setup))
        return state, 0
    state, values = checkpoints.restore_state(manager, newest, state, setup.mesh)
    return state, values["position"]["next_batch"]


def _greet(session: _Session, start: int) -> None:
    setup, data = session.setup, session.config.data
    session.display.say(
        f"{session.config.model.name} on {setup.train_source.name}: "
        f"{len(setup.train_source):,} images, {session.config.model.num_classes} classes, "
        f"{setup.steps:,} steps of {data.batch_size} on {setup.mesh.size} "
        f"{setup.mesh.devices.flat[0].platform} device(s), run in {session.workdir}"
    )
    if start:
        session.display.say(f"going on from step {start}")


def _steps(
    session: _Session, state: TrainState, start: int, last: int, request: StopRequest
) -> Run:
    """Run the updates `start + 1` to `last`, or until a stop is asked for."""
    setup, config = session.setup, session.config
    step_fn = make_train_step(
        setup.model,
        setup.optimizer,
        setup.rate,
        setup.mesh,
        mean=config.data.mean,
        std=config.data.std,
        loss=functools.partial(
            session.task.loss,
            label_smoothing=config.label_smoothing,
            dice_weight=config.dice_weight,
        ),
        seed=config.seed,
    )
    eval_step = make_eval_step(
        setup.model, setup.mesh, mean=config.data.mean, std=config.data.std, task=session.task
    )
    log = TrainingLog(
        session.writers,
        session.display,
        every=config.log_every,
        batch_size=config.data.batch_size,
        epoch_steps=setup.steps_per_epoch,
    )
    batches = train_batches(
        setup.train_source,
        config.data,
        seed=config.seed,
        start_batch=start,
        num_batches=max(last - start, 0),
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    step, metrics = start, dict[str, float]()
    try:
        for batch in batches:
            state, device_metrics = step_fn(state, put_batch(device_rows(batch), setup.mesh))
            step += 1
            log.add(step, device_metrics, skipped=int(batch["skipped"].sum()))
            evaluates, saves = _is_due(session, step)
            stopping = request.signal is not None or step == last
            if evaluates or saves or stopping:
                log.flush()
                with log.paused():
                    metrics = _evaluate(session, eval_step, state) if evaluates else {}
                    _save(session, state, step, metrics)
            if stopping:
                break
    finally:
        batches.close()
    names = setup.train_source.class_names
    return Run(setup.model, state.variables, config, step, metrics, names, session.workdir)


def _is_due(session: _Session, step: int) -> tuple[bool, bool]:
    """Say whether an evaluation and whether a checkpoint is due after `step`."""
    config, setup = session.config, session.setup
    interval = max(config.eval_every_epochs * setup.steps_per_epoch, 1.0)
    evaluates = step == setup.steps or int(step / interval) > int((step - 1) / interval)
    every = config.checkpoint.every_steps
    return evaluates, every is not None and step % every == 0


def _evaluate(session: _Session, eval_step: Any, state: TrainState) -> dict[str, float]:
    source, data = session.setup.eval_source, session.config.data
    session.display.evaluating(data.eval_split, -(-len(source) // data.eval_batch_size))
    metrics = evaluate(
        eval_step,
        state.variables,
        source,
        data,
        session.setup.mesh,
        session.display.evaluated_batch,
        session.task,
    )
    _report(session, "eval", data.eval_split, int(state.step), metrics)
    return metrics


def _test(session: _Session) -> None:
    """Evaluate the best checkpoint on the test split."""
    best = restore(session.workdir, "best", session.setup.mesh)
    metrics = evaluate_run(best, mesh=session.setup.mesh)
    split = session.config.data.test_split or ""
    _report(session, "test", f"{split} (best checkpoint)", best.step, metrics)


def _report(session: _Session, kind: str, split: str, step: int, metrics: dict[str, float]) -> None:
    session.writers.write(kind, step, metrics)
    skipped = f", {metrics['skipped']:.0f} skipped" if metrics["skipped"] else ""
    session.display.evaluated(
        f"step {step}  {split}: {session.task.line.format_map(metrics)}  "
        f"({metrics['count']:.0f} images{skipped})"
    )


def _save(session: _Session, state: TrainState, step: int, metrics: dict[str, float]) -> None:
    values = {
        "config": session.config.to_dict(),
        "class_names": list(session.setup.train_source.class_names),
        "position": {"next_batch": step},
    }
    checkpoints.save(session.manager, state, values, metrics)
