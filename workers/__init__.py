"""The services that keep or process records: one package each, and none imports another."""
