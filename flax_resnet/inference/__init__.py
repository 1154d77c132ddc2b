"""Apply a trained network to images: predictions, features, confusion matrices, explanations.

Nothing is imported here, so that each command loads only what it needs.
"""
