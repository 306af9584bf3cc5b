"""Schemas, roles and configuration of the databases."""
