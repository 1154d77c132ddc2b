"""A run's folder, which belongs to one config (`config.json`) and to one run at a time."""

import contextlib
import dataclasses
import datetime
import json
import math
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import jax

from flax_resnet.data.sources.hub_files import is_commit_of
from flax_resnet.errors import InputError
from flax_resnet.files import replace_text, writable
from flax_resnet.onednn.choice import AUTO
from flax_resnet.training.checkpoints.integrity import text_digest
from flax_resnet.training.checkpoints.store import newest_step
from flax_resnet.training.cluster.agreement import all_say, from_first
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse, rename_stored
from flax_resnet.training.paths import SETTINGS as PATHS
from flax_resnet.training.paths import find_paths, remember_paths, same_path
from flax_resnet.training.unread import unread_settings

CONFIG = "config.json"
PARTS = "parts.json"
LOCK = "run.lock"
OWNER = "owner.json"
# Settings that a resumed run may change: they do not affect what is computed.
FREE = (
    "log_every",
    "checkpoint.",
    "data.data_dir",
    "data.eval_batch_size",
    "data.follow_links",
    "data.workers",
    "data.test_split",
    "early_stopping.",
    "logging.writer",
    "max_nonfinite",
    "test_when_done",
)
# Settings that make a run longer.
LENGTH = {"epochs", "steps"}


@contextlib.contextmanager
def claimed_workdir(
    workdir: Path,
    config: TrainConfig,
    allow_config_change: bool = False,
    steps_per_epoch: float | None = None,
    parts: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Lock the folder of a run: a new one gets the config, an old one must have the same.

    A finished run may be made longer. Every process of a run calls this; the first one acts for
    all. The lock ends with the process, even if it is killed.

    Args:
      parts: the fingerprints of the run's user-defined parts.

    Raises:
      InputError: another run holds the folder (the message says where it runs), the run in it has
        other settings (the message lists them), or it cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        failure = ""
        if jax.process_index() == 0:
            advice = "Use another --workdir, make room in it or change its permissions"
            try:
                with writable(workdir, advice):
                    stack.enter_context(_locked(workdir))
                    _settle_parts(workdir, parts or {}, allow_config_change)
                    _settle_config(workdir, config, allow_config_change, steps_per_epoch)
            except InputError as error:
                failure = str(error)
        if failure := from_first(failure):
            raise InputError(failure)
        settings = text_digest([config.to_dict(), dict(parts or {})])
        if not all_say(settings == from_first(settings)):
            raise InputError("the processes of this run were started with different settings")
        yield


def stored_config(workdir: Path) -> TrainConfig | None:
    """Return the settings of the run in the folder; None if there is none yet."""
    path = workdir / CONFIG
    return parse(_read_config(path)) if path.exists() else None


def keep_choices(config: TrainConfig, workdir: Path) -> TrainConfig:
    """Return the settings with what the run in the folder has chosen where they leave a choice.

    These are the kernels (`auto`) and the commit of a data set of the hub (no revision).
    """
    path = workdir / CONFIG
    if not path.exists():
        return config
    before = _read_config(path)
    if config.cpu_kernels == AUTO:
        config = dataclasses.replace(config, cpu_kernels=before["cpu_kernels"])
    source = str(before.get("data", {}).get("source"))
    if is_commit_of(source, config.data.source):
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))
    return config


@contextlib.contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    workdir.mkdir(parents=True, exist_ok=True)
    # The system frees this lock when its owner dies, so a killed run leaves nothing to remove.
    lock = filelock.FileLock(workdir / LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise InputError(
            f"another run is in {workdir}: {_owner(workdir)}. Wait for it to end, stop it, or use "
            "another --workdir"
        ) from None
    try:
        since = datetime.datetime.now().isoformat(" ", "seconds")
        owner = {"host": socket.gethostname(), "process": os.getpid(), "since": since}
        replace_text(workdir / OWNER, json.dumps(owner) + "\n")
        yield
    finally:
        lock.release()


def _owner(workdir: Path) -> str:
    try:
        owner = json.loads((workdir / OWNER).read_text())
        return f"process {owner['process']} on host {owner['host']}, since {owner['since']}"
    except (OSError, ValueError, KeyError):  # The other run is just starting.
        return "its process is not known yet"


def _settle_config(
    workdir: Path, config: TrainConfig, allow_config_change: bool, steps_per_epoch: float | None
) -> None:
    path = workdir / CONFIG
    if path.exists() and not allow_config_change:
        before = _read_config(path)
        changed = _differences(before, config)
        if changed and not _extends(changed, before, config, workdir, steps_per_epoch):
            raise InputError(
                f"{workdir} holds a run with other settings:\n  "
                + "\n  ".join(f"config.{key}: {values}" for key, values in changed.items())
                + "\nUse another --workdir, or pass --allow_config_change to continue with these."
            )
    remember_paths(config, workdir)
    replace_text(path, json.dumps(config.to_dict(), indent=2) + "\n")


@contextlib.contextmanager
def naming_parts(workdir: Path) -> Iterator[None]:
    """Name the user-defined parts of the folder's run in an `InputError` of the block."""
    try:
        yield
    except InputError as error:
        names = ", ".join(f"{key} {part.split()[0]}" for key, part in _read_parts(workdir).items())
        if not names:
            raise
        raise InputError(
            f"{error} This run has parts of its own ({names}): register them first, in commands by "
            "--import MODULE."
        ) from error


def _read_parts(workdir: Path) -> dict[str, str]:
    path = workdir / PARTS
    try:
        return dict(json.loads(path.read_text())) if path.exists() else {}
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Restore a copy, or remove it") from None


def _settle_parts(workdir: Path, parts: Mapping[str, str], allow_config_change: bool) -> None:
    """Store the fingerprints of the run's parts; refuse a run that has begun with others."""
    before = _read_parts(workdir)
    changed = {key for key in before.keys() | parts.keys() if before.get(key) != parts.get(key)}
    # Without a checkpoint, as after an error in a part at the first step, nothing depends on them.
    if changed and newest_step(workdir) and not allow_config_change:
        raise InputError(
            f"{workdir} holds a run with other parts:\n  "
            + "\n  ".join(
                f"{key}: {before.get(key, 'none')} before, {parts.get(key, 'none')} now"
                for key in sorted(changed)
            )
            + "\nUse another --workdir, or pass --allow_config_change to continue with these."
        )
    if before != parts:
        replace_text(workdir / PARTS, json.dumps(dict(parts), indent=2) + "\n")


def _extends(
    changed: Collection[str],
    before: dict[str, Any],
    config: TrainConfig,
    workdir: Path,
    steps_per_epoch: float | None,
) -> bool:
    """Return whether the settings only make a finished run longer."""
    if steps_per_epoch is None or not set(changed) <= LENGTH:
        return False
    old, new = (
        steps or math.ceil(epochs * steps_per_epoch)
        for steps, epochs in (
            (before.get("steps"), before.get("epochs", TrainConfig().epochs)),
            (config.steps, config.epochs),
        )
    )
    return new > old and newest_step(workdir) >= old


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(
            f"{path} is damaged: {error}. Restore a copy, or remove it if you are sure of the "
            "settings, which the checkpoints also contain"
        ) from None
    return find_paths(rename_stored(values), path.parent)


def _differences(before: dict[str, Any], config: TrainConfig) -> dict[str, str]:
    """Return the settings that differ, each with both values in words."""
    # A setting that was added later had its default value in old runs.
    then = _flatten(_as_read(TrainConfig())) | _flatten(before)
    now = _flatten(_as_read(config))
    # Earlier versions took them with any value, and had other defaults.
    unread = unread_settings(config)
    return {
        key: f"{then.get(key)!r} before, {now.get(key)!r} now"
        for key in sorted(then.keys() | now.keys())
        if then.get(key) != now.get(key)
        and not key.startswith(FREE)
        and key not in unread
        and not (key in PATHS and same_path(key, then.get(key), now.get(key)))
    }


def _as_read(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as `_read_config` does: JSON turns tuples into lists."""
    return dict(json.loads(json.dumps(config.to_dict())))


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
