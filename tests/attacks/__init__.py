"""Whoever owns a broker: a user with full rights who reads, alters, replays, reorders, injects and drops messages."""
