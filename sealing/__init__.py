"""The end-to-end envelope between a client and the Cryptor: HPKE, signatures, sealed streams. No I/O, no clock.

What it protects from is everything in between, gateway and broker included. It knows nothing of stores.
"""
