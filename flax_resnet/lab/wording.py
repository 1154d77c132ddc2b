"""Figures in words, for findings."""

import numpy as np


def count_seeds(count: int) -> str:
    """Say how many seeds there were, and what the figures in brackets are."""
    return f"{count} seeds, mean and range" if count > 1 else "1 seed"


def percent(shares: np.ndarray) -> str:
    """Write shares of 1, one a seed, as their mean and range."""
    spread = f" ({shares.min():.1%} to {shares.max():.1%})" if shares.size > 1 else ""
    return f"{shares.mean():.1%}{spread}"


def mean_or_diverged(losses: np.ndarray) -> str:
    """Write the mean of the last losses of curves (seeds, epochs), and how many are no numbers."""
    last = losses[:, -1]
    diverged = int(np.isnan(last).sum())
    if not diverged:
        return f"{last.mean():.2g}"
    words = f"{diverged} of {len(last)} seeds diverged"
    return words if diverged == len(last) else f"{np.nanmean(last):.2g}, {words}"
