"""In the cloud (3): pure operators over batches, with exactly-once effect, and the runner that hosts them."""
