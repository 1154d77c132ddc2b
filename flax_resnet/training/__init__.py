"""Training: settings, state, the step, the loop and what it leaves on disk.

Nothing is imported here: the step, the state and the mesh need only jax, flax and optax, and work
without the data stack.
"""
