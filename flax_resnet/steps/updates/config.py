"""The settings of updates: which optimiser, at which rate."""

from dataclasses import dataclass

from flax_resnet.errors import InputError, require_known


@dataclass(frozen=True)
class OptimizerConfig:
    """Choose how gradients become updates."""

    name: str = "sgd"
    """sgd | adamw | rmsprop_tf | lars | lamb | muon"""
    momentum: float = 0.9
    """Of sgd, rmsprop_tf, lars and muon."""
    nesterov: bool = False
    b1: float = 0.9
    b2: float = 0.999
    alpha: float = 0.9
    """How slowly rmsprop_tf forgets squares."""
    epsilon: float | None = None
    """None: the published one, 1e-8 of adamw, 1e-10 of muon, 1e-6 of lamb, 1e-3 of rmsprop_tf."""
    trust: float = 1e-3
    """Of lars: the step of a layer as a part of its weights."""
    vector_rate: float = 0.1
    """Of muon: the rate of the head and of all vectors, which Adam updates, as a part of the
    kernels' rate."""
    weight_decay: float = 1e-4
    decay_norms: bool = True
    """False: weight decay leaves out biases, and scales and biases of norms."""
    clip_norm: float | None = None
    """The most that all gradients together may measure; 0: no limit; None: 1 of lamb, else none."""
    clip_adaptive: float | None = None
    """The most that a unit's gradient may measure, as a part of its weights (arXiv:2102.06171)."""
    layer_decay: float = 1.0
    """The rate of every part, from layer4 back to the stem, as a part of that of the part above
    it; below 1 for fine-tuning."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
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
    """Choose the learning rate over time."""

    name: str = "cosine"
    """cosine | step | linear | polynomial | one_cycle | constant"""
    learning_rate: float = 0.1
    """Its peak."""
    scale_for: int | None = None
    """The batch size that `learning_rate` is for; other batches scale it in proportion
    (arXiv:1706.02677). None: it is for any."""
    unit: str = "epoch"
    """What `warmup` and `boundaries` count: epoch or step."""
    every: str = "step"
    """When the rate changes: with every step, or only with every epoch."""
    warmup: float = 0.0
    """The length of the linear growth; of one_cycle that along a cosine, 0: three tenths."""
    warmup_start: float | None = None
    """The rate of the first step; None: the peak over the number of warm-up steps (epochs, where
    the rate changes only with these), of one_cycle 1/25 of the peak."""
    decay_from: str = "warmup"
    """Where the shape after the warm-up is at its beginning: the end of the warm-up, or the start
    of the run, of which the warm-up then hides a part."""
    boundaries: tuple[float, ...] = ()
    """Where `step` multiplies by `factor`."""
    factor: float = 0.1
    power: float = 2.0
    """Of polynomial."""
    end_rate: float = 0.0
    """What cosine, linear, polynomial and one_cycle (0: 1/10,000 of its start) end with."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
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
