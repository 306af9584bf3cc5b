"""The one-machine stack.

The real brokers, databases and services of a vault, on this machine, for demo, tests and trial.
"""
