"""Adapters: one third-party client or system service per file, each implements a port of `headwater.ports`."""
