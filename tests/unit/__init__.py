"""Unit tests: they need no service and start no process."""
