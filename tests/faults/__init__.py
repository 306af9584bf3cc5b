"""Faults: processes, brokers and databases that die or freeze at the worst moment."""
