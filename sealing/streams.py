"""Sealed streams: Cobblestone-256 (C2SP chunked-encryption) in steps of at most 1 MiB (docs/format.md §3).

A stream proves itself whole: truncated, reordered, extended or altered it does not open. Plaintext that `Opener.update`
returns is of verified chunks, but provisional until `finish` returns: only then is it known that nothing follows or
lacks. `update` is used rather than `update_into`, which leaves unverified plaintext in the caller's buffer after a
failure, and is no faster once buffers are reused by the allocator. Which key and which context are the caller's affair.
"""

from collections.abc import Iterator
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from contracts.failures import FailureCode, PermanentError
from contracts.limits import PIECE

KEY_SIZE: Final = 32  # bytes

Buffer = bytes | bytearray | memoryview


class SealError(PermanentError):
    """Something sealed does not open: altered, cut, another key, another context. One error for all of them."""

    def __init__(self) -> None:
        """Say nothing about which."""
        super().__init__(FailureCode.INTEGRITY_FAILED, "seal")


def _step(data: Buffer) -> Buffer:
    if len(data) > PIECE:
        raise ValueError("a synchronous step is at most 1 MiB")
    return data


class Sealer:
    """Seals one stream under a key that may seal many: every stream draws its own salt."""

    def __init__(self, key: bytes, context: bytes) -> None:
        """Bind the stream to `context`."""
        self._stream = Cobblestone256Encryptor(key, context)

    def update(self, data: Buffer) -> bytes:
        """Seal the next bytes, at most 1 MiB; the first call returns the 56 bytes of header too.

        Raises:
            ValueError: more than 1 MiB.
        """
        return self._stream.update(_step(data))

    def finish(self) -> bytes:
        """The end of the stream."""
        return self._stream.finalize()


class Opener:
    """Opens one stream."""

    def __init__(self, key: bytes, context: bytes) -> None:
        """Expect a stream sealed under `key` for `context`."""
        self._stream = Cobblestone256Decryptor(key, context)

    def update(self, data: Buffer) -> bytes:
        """Open the next bytes, at most 1 MiB. What is returned is provisional until `finish`.

        Raises:
            SealError: they are not this stream's.
            ValueError: more than 1 MiB.
        """
        try:
            return self._stream.update(_step(data))
        except InvalidTag:
            raise SealError from None

    def finish(self) -> bytes:
        """The last bytes; the stream is now known to be whole.

        Raises:
            SealError: it is not.
        """
        try:
            return self._stream.finalize()
        except (InvalidTag, ValueError):
            raise SealError from None


def seal(key: bytes, context: bytes, data: Buffer) -> bytes:
    """Seal up to 1 MiB at once."""
    sealer = Sealer(key, context)
    return sealer.update(data) + sealer.finish()


def open_sealed(key: bytes, context: bytes, sealed: Buffer) -> bytes:
    """Open up to 1 MiB of plaintext at once.

    Raises:
        SealError: it does not open.
    """
    opener = Opener(key, context)
    view = memoryview(sealed)
    opened = [opener.update(view[at : at + PIECE]) for at in range(0, len(view), PIECE)]
    return b"".join([*opened, opener.finish()])


class Recutter:
    """Turns pieces of any length into pieces of exactly `size` bytes, the last one shorter. Copies each byte once."""

    def __init__(self, size: int) -> None:
        """Cut to `size` bytes."""
        self._size = size
        self._held: list[memoryview] = []
        self._length = 0

    def feed(self, data: Buffer) -> Iterator[bytes]:
        """Take more bytes; yield every piece that is complete now."""
        view = memoryview(data)
        while self._length + len(view) >= self._size:
            room = self._size - self._length
            self._held.append(view[:room])
            yield self._take()
            view = view[room:]
        if view:
            self._held.append(view)
            self._length += len(view)

    def rest(self) -> bytes:
        """What is left, possibly nothing."""
        return self._take()

    def _take(self) -> bytes:
        piece = b"".join(self._held)
        self._held, self._length = [], 0
        return piece
