"""The wire vocabulary."""
