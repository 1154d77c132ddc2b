"""Published weight formats and their way into Flax variables and back."""

from flax_resnet.weights.torch_keys import from_torch, to_torch

__all__ = ["from_torch", "to_torch"]
