"""The vault in containers, on a real engine: `tests/compose/run`. Not part of `./dev test`, which has no engine."""
