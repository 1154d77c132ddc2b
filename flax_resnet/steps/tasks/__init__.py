"""What a run learns: a row for each task, its losses and its figures."""
