"""A trained network at work: pictures in, classes, scores and features out.

Nothing is imported here, so that each command loads what it needs.
"""
