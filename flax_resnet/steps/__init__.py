"""Pure functions of (state, batch): the training step, the evaluation step and their parts."""
