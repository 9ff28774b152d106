"""Devices without hardware (0): a plant with faults and ground truth, deterministic from one seed."""
