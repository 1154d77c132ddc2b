"""Figures of what the experiments found; nothing here computes a finding."""
