"""The tasks that a run can train for, with their losses and metrics."""
