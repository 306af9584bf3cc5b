"""The Cryptor's core: formats, keys and the fan-out. No broker, no clock, no event loop."""
