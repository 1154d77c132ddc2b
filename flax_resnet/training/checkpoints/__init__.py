"""Checkpoints of a run: written, verified and restored."""
