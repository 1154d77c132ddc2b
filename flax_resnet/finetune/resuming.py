"""The settings of a fine-tuning run that is started again."""

import dataclasses
from pathlib import Path
from typing import Any

from flax_resnet.errors import InputError, printable
from flax_resnet.finetune.settings import balance_of
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.paths import same_path
from flax_resnet.training.workdir import stored_config


def resumed_config(
    workdir: Path,
    asked: TrainConfig,
    *,
    model: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    rate: float | None = None,
    balance: str | None = None,
    allow_change: bool = False,
) -> TrainConfig:
    """Return the settings of the folder's run, made as long as asked for; `asked` if it has none.

    Options that are not given stay as they were, and so does what follows from them, such as the
    warm-up, even if another machine or version would choose it differently.

    Args:
      asked: the settings that `finetune_config` chooses for these options.
      model, epochs, batch_size, image_size, rate, balance: those that were given.
      allow_change: return `asked` where options differ.

    Raises:
      InputError: options differ; the message lists them.
    """
    before = stored_config(workdir)
    if before is None:
        return asked
    schedule = before.schedule
    # A chosen rate is scaled with the batch, a given one is not.
    old_rate = schedule.learning_rate if schedule.scale_for is None else "the default"
    options: dict[str, tuple[Any, Any]] = {
        "--model": (before.model.name, model),
        "--batch-size": (before.data.batch_size, batch_size),
        "--image-size": (before.data.image_size, image_size),
        "--rate": (old_rate, rate),
        "--balance": (balance_of(before), balance),
    }
    changed = {name: pair for name, pair in options.items() if pair[1] not in (None, pair[0])}
    weights = before.model.pretrained, asked.model.pretrained
    if not same_path("model.pretrained", *weights):
        changed["--weights"] = (weights[0] or "none", weights[1] or "none")
    if changed and not allow_change:
        lines = [f"{name}: {old} before, {new} now" for name, (old, new) in sorted(changed.items())]
        raise InputError(
            f"{printable(workdir)} holds a run with other settings:\n  "
            + "\n  ".join(map(printable, lines))
            + "\nUse another --workdir, or pass --allow-config-change to continue with these."
        )
    if changed:
        return asked
    return before if epochs is None else dataclasses.replace(before, epochs=epochs)
