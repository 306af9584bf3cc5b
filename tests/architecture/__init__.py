"""Who may import what, and what each process really loads."""
