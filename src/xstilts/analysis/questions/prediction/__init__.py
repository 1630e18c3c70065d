"""Whether the best recipe can be told before training."""
