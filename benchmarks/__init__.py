"""Measurements of speed and memory: beside peers, and of the trainer."""
