"""Pack the official archives of data sets."""
