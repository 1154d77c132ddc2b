"""Training: settings, state, the step, the loop and what it leaves on disk.

Nothing is imported here: the step, the state and the mesh need jax, flax and optax alone, and
serve where the data stack is not installed.
"""
