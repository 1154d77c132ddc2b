"""Batches: which examples, in which order, loaded by whom."""
