"""Training and evaluation steps as pure functions of state and batch.

They need jax, flax and optax, and of this package only `models` and `errors`.
"""

from flax_resnet.steps.state import TrainState, init_state
from flax_resnet.steps.step import StepParts, make_eval_step, make_train_step

__all__ = ["StepParts", "TrainState", "init_state", "make_eval_step", "make_train_step"]
