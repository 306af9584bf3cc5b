"""`python -m bench.ciphers`: the candidates for question 1 of docs/questions.md, on 50 MiB in steps of 1 MiB.

One thread, best of many rounds: what a cipher can do, not what a busy machine leaves of it. HPKE and the wraps are
timed on a 32-byte key. Nothing of the vault runs.
"""

import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV, ChaCha20Poly1305
from rich.console import Console
from rich.table import Table

from contracts.limits import MAX_BLOB, MIB, PIECE
from sealing.keys import SUITE, HpkeKey, generate_raw, public_key
from sealing.streams import open_sealed, seal

ROUNDS: Final = 15
WRAPS: Final = 2_000
KEY: Final = os.urandom(32)
NONCE: Final = bytes(12)
DATA: Final = os.urandom(MAX_BLOB)


def steps(data: bytes) -> Iterator[memoryview]:
    """Pieces of 1 MiB, as the vault works."""
    view = memoryview(data)
    return (view[at : at + PIECE] for at in range(0, len(view), PIECE))


def seconds(once: Callable[[], object], rounds: int = ROUNDS) -> float:
    """The fastest round."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        once()
        best = min(best, time.perf_counter() - began)
    return best


def bare(cipher: AESGCM | AESGCMSIV | ChaCha20Poly1305) -> None:
    """The cipher alone, every step a message of its own: the least that a scheme of chunks can cost."""
    for step in steps(DATA):
        cipher.encrypt(NONCE, step, None)


def cobblestone_seal() -> None:
    """Cobblestone-256 as the vault uses it: every step is sent on, and its memory used again."""
    stream = Cobblestone256Encryptor(KEY, b"")
    for step in steps(DATA):
        stream.update(step)
    stream.finalize()


def cobblestone_open(sealed: bytes) -> None:
    """The way back."""
    stream = Cobblestone256Decryptor(KEY, b"")
    for step in steps(sealed):
        stream.update(step)
    stream.finalize()


def main() -> None:
    """Print both tables."""
    stream = Cobblestone256Encryptor(KEY, b"")
    sealed = b"".join([*map(stream.update, steps(DATA)), stream.finalize()])
    data = {
        "AES-256-GCM alone": lambda: bare(AESGCM(KEY)),
        "Cobblestone-256, seal": cobblestone_seal,
        "Cobblestone-256, open": lambda: cobblestone_open(sealed),
        "ChaCha20-Poly1305 alone": lambda: bare(ChaCha20Poly1305(KEY)),
        "AES-256-GCM-SIV alone": lambda: bare(AESGCMSIV(KEY)),
        "AES-256-GCM over 50 MiB at once": lambda: AESGCM(KEY).encrypt(NONCE, DATA, None),
    }
    key = HpkeKey.from_raw(generate_raw())
    public = public_key(key.public)
    wrapped, encapsulated = seal(KEY, b"", KEY), SUITE.encrypt(KEY, public)
    wraps = {
        "Cobblestone-256 by a KEK, wrap": lambda: seal(KEY, b"", KEY),
        "Cobblestone-256 by a KEK, unwrap": lambda: open_sealed(KEY, b"", wrapped),
        "HPKE MLKEM768-X25519, seal": lambda: SUITE.encrypt(KEY, public),
        "HPKE MLKEM768-X25519, open": lambda: SUITE.decrypt(encapsulated, key.private),
    }
    table = Table("50 MiB", "ms", "MiB/s")
    for name, once in data.items():
        best = seconds(once)
        table.add_row(name, f"{best * 1000:.1f}", f"{MAX_BLOB / MIB / best:,.0f}")
    few = Table("a 32-byte key", "µs")
    for name, once in wraps.items():
        few.add_row(name, f"{seconds(once, WRAPS) * 1e6:.1f}")
    Console(highlight=False, width=100).print(table, few)


if __name__ == "__main__":
    main()
