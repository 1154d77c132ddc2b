"""Compare speed and memory with torch, timm, tf.data and Pillow in one run."""
