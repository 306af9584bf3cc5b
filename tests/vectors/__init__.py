"""Frozen vectors, and the fixed keys that they and the unit tests are made with."""
