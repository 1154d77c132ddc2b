"""Random changes of single training images, uint8, in the workers that decode them."""
