"""The vault in containers: what `docker-compose.yml` runs first, and what an operator runs on it."""
