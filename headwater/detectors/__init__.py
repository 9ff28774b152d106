"""Anomaly detectors: vectorised over metrics, with a few numbers of state each; they never read a clock."""
