"""Headwater carries sensor readings from devices to dashboards and maintenance decisions, every one accounted for."""

__version__ = "0.1.0"
