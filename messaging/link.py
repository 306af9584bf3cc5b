"""Link seal: what travels between two services is readable by these two alone, whoever owns the broker.

Each link has its own key, with epochs, in a file that only its two ends have. A sealed unit is the epoch (u32), then a
Cobblestone-256 stream over deadline (u64, milliseconds), LP(meta) and body, whose context binds label, link, epoch,
direction, type and correlation id (docs/format.md §8). Long bodies are worked through in steps of 1 MiB, with other
tasks in between. What is inside is not this module's affair.
"""

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from contracts.limits import MAX_BODY, PIECE
from contracts.lp import lp, take_lp

LABEL: Final = b"trivault/link/v1"
EPOCH: Final = 4  # bytes
KEY_SIZE: Final = 32  # bytes
DEADLINE: Final = 8  # bytes

Buffers = Sequence[bytes | memoryview]


class Direction(StrEnum):
    """Which way a message goes; one direction's messages do not open as another's."""

    REQUEST = "request"
    REPLY = "reply"
    JOB = "job"
    EVENT = "event"


class LinkSealError(Exception):
    """A message does not open: forged, altered, or meant for another link, direction, type or call."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was sealed."""

    deadline: float  # unix time, seconds
    meta: bytes = field(repr=False)
    body: memoryview = field(repr=False)


@dataclass(frozen=True, slots=True)
class LinkKeys:
    """The keys of one link: the current epoch seals, every known epoch opens."""

    link: str
    current: int
    epochs: dict[int, bytes] = field(repr=False)

    @classmethod
    def from_file(cls, path: Path) -> "LinkKeys":
        """Read a key file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is malformed; the text does not quote it.
        """
        try:
            told = json.loads(path.read_bytes())
            epochs = {int(epoch): bytes.fromhex(key) for epoch, key in told["epochs"].items()}
            keys = cls(str(told["link"]), int(told["current"]), epochs)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise ValueError(f"{path}: not a link key file") from None
        if not keys._complete():
            raise ValueError(f"{path}: a key is missing, has another length than 32 bytes, or an epoch is out of range")
        return keys

    def _complete(self) -> bool:
        sizes = all(len(key) == KEY_SIZE for key in self.epochs.values())
        return sizes and self.current in self.epochs and all(0 < epoch < 1 << 8 * EPOCH for epoch in self.epochs)

    def _context(self, epoch: int, direction: Direction, type_: str, correlation_id: str) -> bytes:
        told = (self.link, direction, type_, correlation_id)
        link, way, kind, correlation = (each.encode() for each in told)
        return lp(LABEL, link, epoch.to_bytes(EPOCH, "big"), way, kind, correlation)

    async def seal(  # noqa: PLR0917 - the parts of one message, in the order of its format
        self, direction: Direction, type_: str, correlation_id: str, deadline: float, meta: bytes, body: Buffers = ()
    ) -> bytes:
        """Seal meta and body for one message.

        Args:
            direction: which way it goes.
            type_: the message's AMQP type.
            correlation_id: of the call; on a durable queue, the message id.
            deadline: unix time in seconds after which it must not be acted on.
            meta: JSON.
            body: raw bytes, in pieces.
        """
        context = self._context(self.current, direction, type_, correlation_id)
        stream = Cobblestone256Encryptor(self.epochs[self.current], context)
        head = round(deadline * 1000).to_bytes(DEADLINE, "big") + lp(meta)
        sealed = [self.current.to_bytes(EPOCH, "big")]
        for step in _steps([head, *body]):
            sealed.append(stream.update(step))
            if len(step) == PIECE:
                await asyncio.sleep(0)
        sealed.append(stream.finalize())
        return b"".join(sealed)

    async def open(self, direction: Direction, type_: str, correlation_id: str, sealed: bytes) -> Opened:
        """Open what `seal` sealed for the same link, direction, type and correlation id.

        Raises:
            LinkSealError: it does not open. Nothing of it may be used.
        """
        epoch = int.from_bytes(sealed[:EPOCH], "big")
        if epoch not in self.epochs or len(sealed) > 2 * MAX_BODY:
            raise LinkSealError
        context = self._context(epoch, direction, type_, correlation_id)
        stream = Cobblestone256Decryptor(self.epochs[epoch], context)
        opened: list[bytes] = []
        try:
            for step in _steps([memoryview(sealed)[EPOCH:]]):
                opened.append(stream.update(step))
                if len(step) == PIECE:
                    await asyncio.sleep(0)
            opened.append(stream.finalize())
            plain = b"".join(opened)
            (meta,), body = take_lp(memoryview(plain)[DEADLINE:], 1)
        except (InvalidTag, ValueError):
            raise LinkSealError from None
        return Opened(int.from_bytes(plain[:DEADLINE], "big") / 1000, meta, body)


def _steps(buffers: Buffers) -> Iterator[memoryview]:
    """Cut buffers into steps of at most 1 MiB."""
    for buffer in buffers:
        view = memoryview(buffer)
        for at in range(0, len(view), PIECE):
            yield view[at : at + PIECE]
