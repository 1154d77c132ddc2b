"""Convolutions of oneDNN in programs that XLA compiles for the CPU, as an optional extra."""
