"""Programs that write files of this repository: goldens, bounds, pages and tables."""
