"""Tests: unit (no services), stores, isolation, attacks, refusals, acceptance (one real stack per run)."""
