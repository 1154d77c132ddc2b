"""A network behind HTTP: for programs, and as a page for people."""
