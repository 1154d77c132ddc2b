"""The settings of optimizer and learning rate."""

from dataclasses import dataclass

from flax_resnet.errors import InputError, require_known


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimizer."""

    name: str = "sgd"
    """sgd | adamw | rmsprop_tf | lars | lamb | muon"""
    momentum: float = 0.9
    """For sgd, rmsprop_tf, lars and muon."""
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    alpha: float = 0.9
    """Decay of the squared gradients of rmsprop_tf."""
    epsilon: float | None = None
    """None: as published, 1e-8 for adamw, 1e-10 for muon, 1e-6 for lamb, 1e-3 for rmsprop_tf."""
    trust: float = 1e-3
    """For lars: the norm of a layer's step relative to that of its weights."""
    vector_rate: float = 0.1
    """For muon: the learning rate of the head and of all vectors, which Adam updates, relative to
    that of the kernels."""
    weight_decay: float = 1e-4
    decay_norms: bool = True
    """False: no weight decay for biases, nor for scales and biases of norms."""
    clip_norm: float | None = None
    """The largest global norm of the gradients; 0: no limit; None: 1 for lamb, else no limit."""
    clip_adaptive: float | None = None
    """The largest norm of a unit's gradient relative to that of its weights (arXiv:2102.06171)."""
    layer_decay: float = 1.0
    """The learning rate of every part, from layer4 back to the stem, relative to that of the next
    part; below 1 for fine-tuning."""

    def __post_init__(self) -> None:
        """Check that the values are valid."""
        checks = {
            "epsilon": self.epsilon is None or self.epsilon > 0,
            "trust": self.trust > 0,
            "vector_rate": self.vector_rate > 0,
            "clip_norm": self.clip_norm is None or self.clip_norm >= 0,
            "clip_adaptive": self.clip_adaptive is None or self.clip_adaptive > 0,
            "layer_decay": self.layer_decay > 0,
        }
        for name, holds in checks.items():
            if not holds:
                value = getattr(self, name)
                raise InputError(f"config.optimizer.{name} is {value}; expected a positive number")


@dataclass(frozen=True)
class ScheduleConfig:
    """Settings of the learning rate schedule."""

    name: str = "cosine"
    """cosine | step | linear | polynomial | one_cycle | constant"""
    learning_rate: float = 0.1
    """The peak learning rate."""
    scale_for: int | None = None
    """The batch size that `learning_rate` is meant for; other batch sizes scale it linearly
    (arXiv:1706.02677). None: no scaling."""
    unit: str = "epoch"
    """The unit of `warmup` and `boundaries`: epoch or step."""
    every: str = "step"
    """When the learning rate changes: every step, or every epoch."""
    warmup: float = 0.0
    """The length of the linear warm-up; for one_cycle that of its rise (0: 30% of the run)."""
    warmup_start: float | None = None
    """The learning rate of the first step. None: the peak divided by the number of warm-up steps
    (epochs if `every` is epoch), or for one_cycle by 25."""
    decay_from: str = "warmup"
    """When the decay begins: at the end of the warm-up, or at the start of the run, in which case
    the warm-up replaces its first part."""
    boundaries: tuple[float, ...] = ()
    """When `step` multiplies the learning rate by `factor`."""
    factor: float = 0.1
    power: float = 2.0
    """The exponent of polynomial."""
    end_rate: float = 0.0
    """The last value of cosine, linear, polynomial and one_cycle (0: 1/10,000 of its start)."""

    def __post_init__(self) -> None:
        """Check that the values are valid."""
        require_known("config.schedule.every", self.every, ("step", "epoch"))
        require_known("config.schedule.decay_from", self.decay_from, ("warmup", "start"))
        checks = {
            "learning_rate": self.learning_rate > 0,
            "scale_for": self.scale_for is None or self.scale_for > 0,
            "warmup": self.warmup >= 0,
            "warmup_start": self.warmup_start is None or self.warmup_start >= 0,
            "power": self.power > 0,
            "end_rate": self.end_rate >= 0,
        }
        for name, holds in checks.items():
            if not holds:
                value = getattr(self, name)
                raise InputError(f"config.schedule.{name} is {value}; expected a positive number")
