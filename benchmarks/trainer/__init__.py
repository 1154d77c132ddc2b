"""Measure what the trainer costs beside its steps: loop, checkpoints, startup, devices."""
