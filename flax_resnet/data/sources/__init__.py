"""Where labelled images come from: TFDS, folders, tables, masks, or nowhere at all."""
