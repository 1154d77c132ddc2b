"""From gradients to new parameters: optimisers, their rates, what stands still, what is refused."""
