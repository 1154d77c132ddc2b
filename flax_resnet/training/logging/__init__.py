"""Reports of a running training: on the screen, in files and to other programs."""
