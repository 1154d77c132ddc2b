"""From gradients to updates: optimizers, learning rates, frozen parameters, skipped updates."""
