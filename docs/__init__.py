"""The documents; `docs.generate` writes those that the code itself knows."""
