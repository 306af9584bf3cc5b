"""The sizes at which something changes."""

from contracts.limits import COBBLESTONE_CHUNK, INLINE_MAX, MAX_BLOB, MIB

SIZES = [
    0,
    1,
    COBBLESTONE_CHUNK - 1,
    COBBLESTONE_CHUNK,
    COBBLESTONE_CHUNK + 1,
    INLINE_MAX,
    INLINE_MAX + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    8 * MIB - 1,
    8 * MIB,
    8 * MIB + 1,
    MAX_BLOB,
]
