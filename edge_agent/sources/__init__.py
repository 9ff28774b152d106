"""Sources of readings behind one small protocol; third parties add one by entry point."""
