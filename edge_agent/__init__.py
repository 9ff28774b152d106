"""On the device (1): sample, check quality, detect, reduce, pack, keep in the spool, publish."""
