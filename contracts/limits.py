"""Sizes and counts that both ends of a message rely on. Each limit is argued where it stands.

Operational settings (budgets, time-outs, quotas) belong to the services; only what is part of the protocol is here.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_BLOB: Final = 52_428_800  # bytes; 50 MiB, the limit that the mission sets
MAX_ITEMS: Final = 10_000  # items of one request: a 10,000-entry outcome list stays below 1 MiB of JSON

# A payload of up to 256 KiB rides in the request: one hop instead of a queue of its own, and quorum queues, which keep
# bodies in memory and in the log, stay small.
INLINE_MAX: Final = 256 * KIB

# Larger streams travel in messages of 1 MiB: publishing one stalls the event loop for about 2 ms (16 MiB: 34 ms), and
# no crypto step is larger.
PIECE: Final = MIB

# A blob of a batch. No crypto step is larger, and whoever reads a batch never holds more of it than a few pieces.
ITEM_MAX: Final = MIB

# What one export answers with at most, not counting what frames it: whoever asks holds all of it until it is whole.
EXPORT_MAX: Final = 8 * MIB

# Small items of one batch share an object, a pack: an object costs an fsync or an S3 request, whatever its size. The
# header of a full pack (40,008 bytes) comes with the first bytes that a reader asks for.
PACK_ITEMS: Final = 1_000

# One page of a store's ids under a sweep: its outcomes (100 KiB of JSON) and its statement stay small beside a dump's.
PAGE: Final = 1_000

PART: Final = 5_242_880  # bytes of one DataStore part: S3's minimum for every part but the last

# The meta header shares the one frame (128 KiB) of the AMQP content header; sealed metas travel in bodies and may be
# larger.
MAX_META_HEADER: Final = 64 * KIB
MAX_META: Final = 2 * MIB  # bytes of one JSON meta under seal; holds 10,000 outcomes
MAX_BODY: Final = PART + MIB  # bytes of one message body: the largest part plus its envelope

MAX_EXPIRY: Final = 24 * 3600  # seconds that a request may live; bounds the ledger and the replay window
CLOCK_SKEW: Final = 300  # seconds by which a client's clock may run ahead of ours

COBBLESTONE_HEADER: Final = 56  # bytes: 24 of salt, 32 of commitment
COBBLESTONE_CHUNK: Final = 16 * KIB  # bytes of plaintext in one chunk
COBBLESTONE_TAG: Final = 16  # bytes that each chunk grows by


def sealed_size(plaintext: int) -> int:
    """Bytes of a whole Cobblestone-256 stream over `plaintext` bytes, its header included.

    The last chunk is always shorter than a full one: an exact multiple gains an empty chunk (C2SP chunked-encryption).
    """
    chunks = plaintext // COBBLESTONE_CHUNK + 1
    return COBBLESTONE_HEADER + plaintext + chunks * COBBLESTONE_TAG


def pieces(plaintext: int) -> int:
    """Messages that a sealed stream over `plaintext` bytes travels in."""
    return -(-sealed_size(plaintext) // PIECE)
