"""The settings of a run, as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError, require_local
from flax_resnet.onednn.choice import AUTO
from flax_resnet.steps.averages import AverageConfig
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.tasks.classification import EQUAL
from flax_resnet.steps.tasks.distillation import DistillConfig
from flax_resnet.steps.tasks.multilabel import HALF
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
    pretrained_key: str | None = None
    """The part of a file of weights to take, as `load_pretrained(key=...)`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `create_model` that replace those of the table."""

    def __post_init__(self) -> None:
        """Refuse weights that are not on this machine or on the hub."""
        require_local(self.pretrained or "")


@dataclass(frozen=True)
class CheckpointConfig:
    """Choose which checkpoints are kept: the newest, the best, and those at regular intervals."""

    keep_latest: int = 2
    keep_best: int = 1
    keep_every_steps: int | None = None
    """Also keep the checkpoints at multiples of this step forever; None: none."""
    every_steps: int | None = None
    """Steps between checkpoints, in addition to those after evaluations; None: only after these."""

    def __post_init__(self) -> None:
        """Refuse values that would leave a run without a checkpoint."""
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
    """Choose what is logged besides numbers, and where besides TensorBoard."""

    images: int = 8
    """Number of images of the first batch to log, augmented but not mixed."""
    histograms: bool = False
    """Log a histogram of every parameter at every evaluation."""
    stage_gradients: bool = False
    """Log the gradient norm of every stage (stem, layer1, ..., head) at every `log_every` steps."""
    wandb: str | None = None
    """A project of Weights & Biases, which reads its own WANDB_* environment variables."""
    writer: str | None = None
    """A writer that `flax_resnet.register_writer` has added."""

    def __post_init__(self) -> None:
        """Refuse a negative number of images."""
        if self.images < 0:
            raise InputError(f"config.logging.images is {self.images}; expected 0 or more")


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """End a run whose evaluations no longer improve by the metric that ranks checkpoints."""

    patience: int | None = None
    """Number of evaluations in a row without a new best one after which the run ends; None: never.
    The learning rate follows the schedule of the whole run."""
    min_delta: float = 0.0
    """How much better than the best one a new best one has to be: 0.001 is 0.1% of accuracy."""

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        if self.patience is not None and self.patience < 1:
            raise InputError(
                f"config.early_stopping.patience is {self.patience}; expected 1 or more "
                "evaluations, or None"
            )
        if not 0 <= self.min_delta < 1:
            raise InputError(
                f"config.early_stopping.min_delta is {self.min_delta}; expected 0 to 1"
            )


@dataclass(frozen=True)
class TrainConfig:
    """All settings of a run."""

    task: str = "classification"
    """classification (one class for each image) | multilabel (any number of classes for each
    image) | segmentation (one class for each pixel)"""
    seed: int = 0
    epochs: float = 1.0
    steps: int | None = None
    """The length of the run; it overrides `epochs`."""
    loss: str = "softmax"
    """softmax: cross-entropy over the classes | sigmoid: the mean over classes of binary
    cross-entropies (RSB, arXiv:2110.00476), as multilabel needs. Evaluations of classification
    always report the former."""
    target_threshold: float | None = None
    """For `sigmoid`: targets above it, smoothed and mixed, become 1, others 0; None: off."""
    label_smoothing: float = 0.0
    threshold: str = HALF
    """For multilabel: the probability from which a class counts as predicted, or best: the one with
    the best F1 over all decisions, chosen anew in each evaluation and kept with the checkpoint."""
    class_weights: str = EQUAL
    """none | balanced (inverse to the number of training images of the class) | a number for each
    class in the order of their names, as in `1,2.5,1`. A weight multiplies the part of the loss
    whose target is the class (in torch: `weight` of the cross-entropy, `pos_weight` of the binary
    one). Weights are scaled to a mean of 1 over the training images."""
    dice_weight: float = 0.0
    """Weight of the Dice loss (1 - mean soft Dice) that segmentation adds to the cross-entropy."""
    accumulate: int = 1
    """Gradient accumulation: the number of micro-batches in a batch; saves memory on accelerators.
    The update equals that of the whole batch if `norm_group` divides a micro-batch; without
    `norm_group` each micro-batch is a batch-norm group. Dropout is drawn per micro-batch."""
    freeze: str = ""
    """Parameters that stay fixed: a pattern of parts (`stem|layer[12]`) or of published keys."""
    freeze_epochs: float | None = None
    """How long `freeze` applies, so that a new head learns first; None: to the end."""
    freeze_norms: str | None = None
    """Pattern of batch norms that always use stored statistics; None: those in `freeze`."""
    eval_every_epochs: float = 1.0
    test_when_done: bool = False
    """Evaluate the best checkpoint on `data.test_split` when training ends."""
    log_every: int = 50
    max_nonfinite: int = 0
    """Number of consecutive updates that are skipped because loss or gradient is not finite, before
    the run stops; 0: it stops at the first."""
    loss_scale: str = NONE
    """none | dynamic | a number: factor of the loss while its gradient is computed in float16."""
    deterministic: bool = False
    """Make runs on GPUs reproducible, and slower. Elsewhere they always are reproducible."""
    cpu_kernels: str = AUTO
    """Convolutions on CPUs: xla | onednn | auto, which is oneDNN where it is installed and there is
    one device. A run keeps what it started with."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    mix: MixConfig = field(default_factory=MixConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    average: AverageConfig = field(default_factory=AverageConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
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
                "expected None, or the number of epochs for which a pattern is frozen"
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
