"""One image: read, decoded, cropped and resized."""
