"""The settings of a run, as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError
from flax_resnet.steps.averages import AverageConfig
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.tasks.distillation import DistillConfig
from flax_resnet.steps.tasks.table import check_learning
from flax_resnet.steps.updates.config import OptimizerConfig, ScheduleConfig
from flax_resnet.steps.updates.guard import NONE, check_loss_scale


@dataclass(frozen=True)
class ModelConfig:
    """Choose a network from the table of models, and change any of its arguments.

    In a recipe, on the command line and in a stored config, `arguments` are not a section of their
    own: `config.model.gate = "eca"`.
    """

    name: str = "resnet50"
    dtype: str = "float32"
    """Compute dtype: bfloat16 on accelerators, float16 with `loss_scale`. Parameters and logits
    stay float32."""
    num_classes: int | None = None
    """None: the number of classes in the data."""
    pretrained: str | None = None
    """Weights to start from: a published name (`resnet50.a1_in1k`), a file, a folder or a run."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `create_model` that replace those of the table."""


@dataclass(frozen=True)
class CheckpointConfig:
    """Choose what is kept on disk: the newest, the best and every so many, side by side."""

    keep_latest: int = 2
    keep_best: int = 1
    keep_every_steps: int | None = None
    """Also keep, for good, the checkpoints of the multiples of this step; None: none."""
    every_steps: int | None = None
    """Save this often besides after every evaluation; None: only then."""

    def __post_init__(self) -> None:
        """Refuse what would leave a run without a checkpoint."""
        for name, least in (("keep_latest", 1), ("keep_best", 0)):
            if getattr(self, name) < least:
                value = getattr(self, name)
                raise InputError(f"config.checkpoint.{name} is {value}; expected at least {least}")
        for name in ("keep_every_steps", "every_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"config.checkpoint.{name} is {value}; expected at least 1 step")


@dataclass(frozen=True)
class LoggingConfig:
    """Choose what is written down besides numbers, and who gets it besides TensorBoard."""

    images: int = 8
    """So many of the first batch, as the network sees them but for mixing; 0: none."""
    histograms: bool = False
    """Of every parameter, at every evaluation."""
    wandb: str | None = None
    """A project of Weights & Biases; its own WANDB_* variables say where, who and whether."""

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        if self.images < 0:
            raise InputError(f"config.logging.images is {self.images}; expected 0 or more")


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run."""

    task: str = "classification"
    """classification | segmentation: a class for every image, or for every pixel."""
    seed: int = 0
    epochs: float = 1.0
    steps: int | None = None
    """The length of the run; where both are given, in steps."""
    loss: str = "softmax"
    """softmax | sigmoid: cross-entropy over the classes; binary ones, the mean of a question a
    class (RSB, arXiv:2110.00476). Evaluations give the former."""
    target_threshold: float | None = None
    """Of `sigmoid`: smoothed, mixed targets above it count as 1, others as 0; None: they stay."""
    label_smoothing: float = 0.0
    dice_weight: float = 0.0
    """Of one minus the mean soft Dice, which segmentation adds to the cross-entropy."""
    accumulate: int = 1
    """Compute a batch in so many parts, for less memory (on CPUs not less). It equals the whole
    where `norm_group` divides a part; without, a part is a batch-norm group. What is dropped is
    drawn for each part."""
    freeze: str = ""
    """What does not train: a pattern of parts (`stem|layer[12]`) or of published keys."""
    freeze_epochs: float | None = None
    """So long `freeze` holds: a new head learns before the body does; None: to the end."""
    freeze_norms: str | None = None
    """Which batch norms use their stored statistics, to the end; None: those in `freeze`."""
    eval_every_epochs: float = 1.0
    test_when_done: bool = False
    """Evaluate the best checkpoint on `data.test_split` when training ends."""
    log_every: int = 50
    max_nonfinite: int = 0
    """So many updates in a row are left out where loss or gradient is not finite, before the run
    stops; 0: it stops at the first."""
    loss_scale: str = NONE
    """none | dynamic | a number: what the loss is multiplied by while float16 computes its
    gradient."""
    deterministic: bool = False
    """On GPUs: the same numbers again from the same run, more slowly. Elsewhere they always are."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        """Refuse values that cannot work together."""
        for name in ("epochs", "steps", "eval_every_epochs", "log_every"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"config.{name} is {value}; expected a positive number")
        if self.freeze_epochs is not None and not (self.freeze and self.freeze_epochs >= 0):
            raise InputError(
                f"config.freeze_epochs is {self.freeze_epochs} and config.freeze {self.freeze!r}; "
                "expected how long a pattern of parts does not train, or None"
            )
        if self.max_nonfinite < 0:
            raise InputError(f"config.max_nonfinite is {self.max_nonfinite}; expected 0 or more")
        check_loss_scale("config.loss_scale", self.loss_scale)
        check_learning(self)
        if self.test_when_done and self.data.test_split is None:
            raise InputError("config.test_when_done needs config.data.test_split")

    def to_dict(self) -> dict[str, Any]:
        """Return nested dictionaries of JSON types; `parse` reads them back."""
        values = dataclasses.asdict(self)
        values["model"] |= values["model"].pop("arguments")
        return values
