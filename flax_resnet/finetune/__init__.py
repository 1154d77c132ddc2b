"""Turn a folder of images into the settings of a run."""
