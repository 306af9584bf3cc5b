"""Fixtures for everybody. Unit tests ask for none of the stack's, and start nothing."""

pytest_plugins = ["tests.fix_stack", "tests.fix_s3", "tests.fix_node"]
