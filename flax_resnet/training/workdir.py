"""A run's folder belongs to one config: `config.json` says which."""

import json
from pathlib import Path
from typing import Any

from flax_resnet.errors import InputError
from flax_resnet.training.config import TrainConfig

CONFIG = "config.json"
# Settings that a rerun may change freely: they do not touch what is computed.
FREE = (
    "log_every",
    "checkpoint.",
    "data.data_dir",
    "data.eval_batch_size",
    "data.workers",
    "data.test_split",
    "test_when_done",
)


def claim_workdir(workdir: Path, config: TrainConfig, allow_config_change: bool = False) -> None:
    """Write the config into a new folder, or check that an old one was made by the same.

    Raises:
      InputError: the folder's run has other settings; the message lists them.
    """
    path = workdir / CONFIG
    if path.exists() and not allow_config_change:
        # A setting that came later had its default then.
        before = _flatten(TrainConfig().to_dict()) | _flatten(json.loads(path.read_text()))
        now = _flatten(json.loads(json.dumps(config.to_dict())))
        changed = [
            f"config.{key}: {before.get(key)!r} there, {now.get(key)!r} here"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(FREE)
        ]
        if changed:
            raise InputError(
                f"{workdir} holds a run with other settings:\n  "
                + "\n  ".join(changed)
                + "\nTake another --workdir, or pass --allow_config_change to go on with these."
            )
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config.to_dict(), indent=2) + "\n")


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
