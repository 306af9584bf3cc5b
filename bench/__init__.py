"""What the vault costs, beside what the same machine and the same broker can do bare, measured in one run."""
