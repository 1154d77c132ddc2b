"""Tests too long for the suite, as programs: kills, hours of training, many processes."""
