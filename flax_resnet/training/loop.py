"""The run: restore or start, step, evaluate, save, until the end or a signal."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import orbax.checkpoint as ocp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from flax_resnet.errors import InputError, printable, require_local
from flax_resnet.interrupts import EXIT_STOPPED
from flax_resnet.onednn.choice import cpu_kernels
from flax_resnet.steps.averages import fitting_average
from flax_resnet.steps.state import TrainState, init_state
from flax_resnet.steps.step import StepParts, make_train_step
from flax_resnet.training import tracing
from flax_resnet.training.checkpoints import restoring as fallback
from flax_resnet.training.checkpoints import store
from flax_resnet.training.checkpoints.restoring import Restored, restore_state
from flax_resnet.training.classes import check_same_classes
from flax_resnet.training.cluster.agreement import (
    Stopped,
    all_say,
    meet,
    stop_requests,
)
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.early_stopping import stopping_step
from flax_resnet.training.logging.display import Display
from flax_resnet.training.logging.log import NonFiniteError, TrainingLog
from flax_resnet.training.logging.writers import Writers, read_rows
from flax_resnet.training.networks import load_teacher, starting_variables
from flax_resnet.training.nonfinite import explain_nonfinite
from flax_resnet.training.parsing import parse
from flax_resnet.training.parts import Parts
from flax_resnet.training.runs import Run, restore
from flax_resnet.training.session import FIRST_POSITION, Session
from flax_resnet.training.setup import Setup, prepare_run
from flax_resnet.training.tracing import Tracer
from flax_resnet.training.workdir import claimed_workdir, keep_choices


def train(
    config: ConfigDict | Mapping[str, Any] | TrainConfig,
    workdir: str | Path,
    *,
    stop_after: int | None = None,
    allow_config_change: bool = False,
    mesh: Mesh | None = None,
    profile: tuple[int, int] | None = None,
    source: Any = None,
    model: nn.Module | None = None,
    loss: Callable[..., Any] | None = None,
    optimizer: Any = None,
    transform: Callable[..., Any] | None = None,
    writer: Any = None,
) -> Run:
    """Train what `config` describes, or resume the run in `workdir`.

    A run that was stopped or killed resumes from its newest undamaged checkpoint, with the batches
    that it would have seen next. A finished one continues if `epochs` or `steps` are increased, on
    the longer schedule. On SIGINT and SIGTERM it finishes the step, saves, and raises `Stopped`.

    Args:
      stop_after: stop and save after this step, as if interrupted.
      allow_config_change: resume with other settings; another optimizer starts with a new state.
      mesh: the devices to train on; None takes all.
      profile: the first and the last step, from 1, that are traced into `tensorboard`.
      source: data of your own: an object with `len` and `[i]`, or such objects by split; see
        `register_source`. This and the parts below replace what settings name, and a run resumes
        only with the same ones.
      model: a Linen module, as `register_model` takes its class.
      loss: `(logits, batch) -> loss`; see `register_loss`.
      optimizer: an optax transformation with its learning rate, or a function that makes one of a
        schedule, which is then that of `config.schedule`.
      transform: `(image, rng) -> image` of training images; see `register_transform`.
      writer: an object with `write(row)`, or a function of a row; see `register_writer`.

    Returns:
      The run at its last step; `flax_resnet.restore(workdir)` gives the best one.

    Raises:
      InputError: settings, data or folder cannot be used as they are, or a loss is not finite.
      Stopped: a signal asked for it; the newest checkpoint holds everything.
    """
    workdir = Path(workdir)
    _check_name(workdir)
    parts = Parts(source, model, loss, optimizer, transform, writer)
    setup = prepare_run(keep_choices(parse(config), workdir), mesh, parts)
    return _train(setup, workdir, stop_after, allow_config_change, profile)


def _train(
    setup: Setup,
    workdir: Path,
    stop_after: int | None,
    allow_config_change: bool,
    profile: tuple[int, int] | None,
) -> Run:
    last = min(setup.steps, stop_after or setup.steps)
    tracer = Tracer(workdir / tracing.FOLDER, profile, last)
    with (
        claimed_workdir(
            workdir,
            setup.config,
            allow_config_change,
            setup.steps_per_epoch,
            setup.fingerprints,
        ),
        cpu_kernels(setup.config.cpu_kernels),
        stop_requests() as request,
    ):
        if not allow_config_change and (done := _finished(setup, workdir)) is not None:
            return done
        unrankable = fallback.set_aside_unrankable(workdir)
        with store.writing(workdir, setup.config.checkpoint) as manager:
            restored, damaged = _start(setup, workdir, manager)
            start = restored.run["position"]["next_batch"]
            main = jax.process_index() == 0
            display = Display(setup.steps, start, main)
            own = setup.parts.writer
            writers = Writers(workdir, setup.config, start, restored.history, main, own)
            session = Session(setup, workdir, manager, writers, display, request, tracer)
            try:
                session.greet(start)
                _warn(session, unrankable | damaged, restored)
                run = _go(session, restored, last)
            finally:
                tracer.close()
                display.close()
                writers.close()
    if request.asked:
        display.say(f"stopped at step {run.step}; the same command continues from there")
        raise Stopped(EXIT_STOPPED)
    return run


def _check_name(workdir: Path) -> None:
    """Raise `InputError` unless checkpoints can be written to a folder of this name."""
    require_local(workdir)
    try:
        os.fspath(workdir.absolute()).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{printable(workdir)} is not a name in UTF-8, which checkpoints need: use another "
            "folder, or set PYTHONUTF8=1 where the system's encoding is another one"
        ) from None


def _finished(setup: Setup, workdir: Path) -> Run | None:
    """Return the run in the folder, and say so, if there is nothing left to do."""
    step, config = store.newest_step(workdir), setup.config
    try:
        rows = [row for row in read_rows(workdir) if row["step"] <= step] if step else []
    except OSError:
        rows = []
    ended = step >= setup.steps or stopping_step(config.early_stopping, rows) is not None
    evaluated = any(row["kind"] == "eval" and row["step"] == step for row in rows)
    tested = any(row["kind"] == "test" for row in rows) or not config.test_when_done
    if not all_say(ended and evaluated and tested):
        return None
    try:
        run = restore(workdir, step, setup.mesh, model=setup.parts.model)
    except InputError:  # The newest checkpoint is damaged: train from the one before it.
        return None
    display = Display(setup.steps, step, jax.process_index() == 0)
    length = f"{step:,} steps" if config.steps else f"{config.epochs:g} epochs ({step:,} steps)"
    more = "--config.steps" if config.steps else "--epochs"
    if step < setup.steps:
        length, more = f"early, {step:,} steps", "--config.early_stopping.patience"
    display.say(
        f"the run in {workdir} is finished: {length}; {more} with more of them continues it"
    )
    display.close()
    return run


def _start(
    setup: Setup, workdir: Path, manager: ocp.CheckpointManager
) -> tuple[Restored, dict[int, str]]:
    """Return the initial or the newest undamaged state, and the damage of newer ones by step."""
    steps = sorted(manager.all_steps(), reverse=True)
    if not steps:
        state = initial_state(setup)
        return Restored(state, {"position": FIRST_POSITION}, [], fresh_optimizer=False), {}
    state = _random_state(setup)
    restored, damaged = fallback.first_whole(
        steps, lambda step: restore_state(manager, step, state, setup.mesh)
    )
    if restored is None:
        raise fallback.none_whole(workdir / store.FOLDER, damaged)
    check_same_classes(setup.train_source, restored.run["class_names"], str(workdir))
    if damaged:
        fallback.set_aside(workdir, list(damaged))
        meet("damaged checkpoints are set aside")
        manager.reload()
    return restored, damaged


def initial_state(setup: Setup) -> TrainState:
    """Return the state of a new run: random, or with the weights that it starts from."""
    state = _random_state(setup)
    if setup.config.model.pretrained is None:
        return state
    return state.starting_from(starting_variables(setup))


def _random_state(setup: Setup) -> TrainState:
    config, data = setup.config, setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    return init_state(
        setup.model, setup.optimizer, config.seed, shape, setup.mesh, config.average.kind
    )


def _warn(session: Session, damaged: dict[int, str], restored: Restored) -> None:
    display, workdir = session.display, session.workdir
    for step, reason in damaged.items():
        display.say(
            f"warning: checkpoint {step} is damaged and was moved to "
            f"{workdir / fallback.DAMAGED}: {reason}"
        )
    if restored.fresh_optimizer:
        display.say("warning: the optimizer differs from the checkpoint's: its state starts anew")
    if restored.average_change:
        display.say(f"warning: {restored.average_change}")
    if passed := session.tracer.passed(restored.run["position"]["next_batch"]):
        display.say(passed)


def _go(session: Session, restored: Restored, last: int) -> Run:
    """Make up for a pending evaluation, train up to `last`, and test at the end of the run."""
    setup, state, position = session.setup, restored.state, restored.run["position"]
    step = position["next_batch"]
    metrics = (session.manager.metrics(step) or {}) if step else {}
    if position["evaluation_due"]:
        metrics = session.evaluate(state)
        if metrics:
            store.add_metrics(session.manager, step, metrics)
    stopped = step < setup.steps and session.stops_early()
    if step < last and not (stopped or session.request.asked):
        state, step, metrics, stopped = _steps(session, state, step, last, position["log"])
    store.wait(session.manager)
    ended = step == setup.steps or stopped
    if ended and session.config.test_when_done and not session.request.asked:
        session.test()
    names = setup.train_source.class_names
    average = fitting_average(state.average, metrics)
    variables, kind = (
        (state.variables, None) if average is None else (average.variables, average.kind)
    )
    return Run(setup.model, variables, session.config, step, metrics, names, session.workdir, kind)


def _steps(
    session: Session, state: TrainState, start: int, last: int, carried: dict[str, Any] | None
) -> tuple[TrainState, int, dict[str, float], bool]:
    """Run the updates `start + 1` to `last`, or until a stop is asked for or comes early.

    Returns:
      The state, its step and metrics, and whether the evaluations ended the run.
    """
    setup, request, step_fn = session.setup, session.request, train_step(session.setup)
    log = TrainingLog(
        session.writers,
        session.display,
        request,
        every=session.config.log_every,
        batch_size=session.config.data.batch_size,
        epoch_steps=setup.steps_per_epoch,
        max_nonfinite=session.config.max_nonfinite,
        carried=carried,
    )
    batches = setup.training_batches(start, last - start)
    step, metrics, stopped = start, dict[str, float](), False
    try:
        for batch in batches:
            if step == start and request.asked:
                break  # The newest checkpoint holds everything.
            if step == 0:
                session.show_images(batch)
            step += 1
            sent = request.put_batch(batch, setup.mesh)
            state, device_metrics = session.tracer.run(step, step_fn, state, sent)
            log.add(step, device_metrics, skipped=int(batch["skipped"].sum()))
            evaluates, saves = session.is_due(step)
            if evaluates or saves or request.asked or step == last:
                log.flush()
                with log.paused():
                    if evaluates:
                        state = session.prepare_evaluation(state, step)
                    metrics = session.evaluate(state) if evaluates and not request.asked else {}
                    session.save(state, step, metrics, log.carried())
                stopped = bool(evaluates and metrics and step < setup.steps) and (
                    session.stops_early()
                )
                if request.asked or stopped:
                    break
    except NonFiniteError as found:
        # No update has happened since, so `state` is the one from before the bad batch.
        raise explain_nonfinite(setup, state, found.step - 1, session.workdir) from None
    finally:
        batches.close()
    return state, step, metrics, stopped


def train_step(setup: Setup) -> Callable[..., Any]:
    """Return the jitted update `(state, batch) -> (state, metrics)` of a run."""
    config = setup.config
    parts = StepParts(
        setup.model,
        setup.optimizer,
        setup.rate,
        mean=config.data.mean,
        std=config.data.std,
        loss=setup.loss,
        averaging=setup.averaging,
        mixing=config.mix,
        accumulate=config.accumulate,
        teacher=load_teacher(setup),
        seed=config.seed,
        max_nonfinite=config.max_nonfinite,
        loss_scale=config.loss_scale,
        stage_gradients=config.logging.stage_gradients,
        deterministic=config.deterministic,
    )
    return make_train_step(parts, setup.mesh)
