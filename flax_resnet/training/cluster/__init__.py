"""Several processes as one run: how they join, agree, stop and fail."""
