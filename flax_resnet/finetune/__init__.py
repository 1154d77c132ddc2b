"""From a folder of images to the settings of a run."""
