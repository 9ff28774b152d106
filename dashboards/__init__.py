"""To look at (4): the built-in live page and its API."""
