"""A load.

Map, then key and data side by side, as the author numbered it; verified, decrypted, sealed to the client again.

A small record is returned whole. A large one is streamed while it is still being read; what the client gets is
provisional until its stream ends, and the stream ends only if the record verified whole.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from contracts.failures import FailureCode, PermanentError
from contracts.limits import INLINE_MAX, PART, PIECE
from contracts.stores import Failure, Key, Loaded, Range, Row, RowState
from messaging.together import together
from sealing.streams import SealError
from workers.cryptor.core.fanout import Ids
from workers.cryptor.core.format import DataDecryptor, data_context, encrypted_size
from workers.cryptor.core.keys import Keyring
from workers.cryptor.requests import Opened
from workers.cryptor.stores import Stores, WithData

RANGES_AHEAD: Final = 3  # parts of one record on their way from the DataStore


@dataclass(frozen=True, slots=True)
class Found:
    """A record that this client may load: its map row, verified."""

    row: Row
    ids: Ids
    map_share: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of plaintext."""
        return self.row.size

    @property
    def large(self) -> bool:
        """Whether it is too large to be answered in one message."""
        return self.size > INLINE_MAX


class Loader:
    """Finds and decrypts records."""

    def __init__(self, stores: Stores, keyring: Keyring) -> None:
        """Read from `stores` with keys of `keyring`."""
        self._stores = stores
        self._keyring = keyring

    async def find(self, opened: Opened, deadline: float) -> Found:
        """The map row of the record that the request names.

        Raises:
            PermanentError: `not_found` (also if it is somebody else's) or `integrity_failed`.
            TransientError: MapStore cannot be reached.
        """
        external_uuid = opened.secrets.external_uuids[0]
        return self.accept(opened, external_uuid, (await self._stores.map_load.call(external_uuid, deadline)).item)

    def accept(self, opened: Opened, external_uuid: UUID, row: Row) -> Found:
        """What MapStore has under this uuid, if it is a record of this client.

        Raises:
            PermanentError: `not_found` or `integrity_failed`.
        """
        self._keyring.verify_row(row)
        ids = Ids.of(row)
        if row.state is not RowState.LIVE or row.owner != opened.owner:
            raise PermanentError(FailureCode.NOT_FOUND)
        if ids is None or row.map_share is None or ids.external_uuid != external_uuid:
            raise PermanentError(FailureCode.INTEGRITY_FAILED, "map_row")
        return Found(row, ids, row.map_share)

    async def whole(self, found: Found, deadline: float) -> bytes:
        """A small record.

        Raises:
            PermanentError: `integrity_failed`.
            TransientError: a store cannot be reached.
        """
        return b"".join([piece async for piece in self.pieces(found, deadline)])

    async def pieces(self, found: Found, deadline: float) -> AsyncIterator[bytes]:
        """A record's plaintext in pieces of about 1 MiB; the last is yielded only if all of it verified.

        Raises:
            PermanentError: `integrity_failed`.
            TransientError: a store cannot be reached.
        """
        total = encrypted_size(found.size)
        ranges = self._ranges(found, total, deadline)
        try:
            key, first = await together(self._stores.key_load.call(found.ids.key_store_uuid, deadline), _next(ranges))
        except PermanentError as error:
            raise _missing(error) from None
        decryptor = self._decryptor(found, key, first)
        size = 0
        data = first.data
        while True:
            for at in range(0, len(data), PIECE):
                piece = decryptor.update(memoryview(data)[at : at + PIECE])
                size += len(piece)
                yield piece
            try:
                data = (await anext(ranges)).data
            except StopAsyncIteration:
                break
            except PermanentError as error:
                raise _missing(error) from None
        rest = decryptor.finish()
        if size + len(rest) != found.size:
            raise SealError
        yield rest

    def decrypt(self, found: Found, key: WithData[Key] | Failure, loaded: WithData[Loaded] | Failure) -> bytes:
        """A record of at most 1 MiB, from its key and the whole of its data.

        Raises:
            PermanentError: `integrity_failed`, or the code with which a store failed.
        """
        if isinstance(key, Failure):
            raise _missing(PermanentError(key.code))
        if isinstance(loaded, Failure):
            raise _missing(PermanentError(loaded.code))
        decryptor = self._decryptor(found, key, loaded)
        data = memoryview(loaded.data)
        steps = [decryptor.update(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
        blob = b"".join((*steps, decryptor.finish()))
        if len(blob) != found.size:
            raise SealError
        return blob

    def _decryptor(self, found: Found, key: WithData[Key], first: WithData[Loaded]) -> DataDecryptor:
        dek = self._keyring.unwrap(key.item.key, found.row.owner, key.item.iv)
        context = data_context(found.ids.external_uuid, found.row.owner, found.map_share)
        return DataDecryptor(dek, context, key.item.iv, first.item.auth_tag)

    async def _ranges(self, found: Found, total: int, deadline: float) -> AsyncIterator[WithData[Loaded]]:
        """The encrypted data in order, read ahead. Small records coalesce; large ones take one message a part."""
        operation = self._stores.data_range if found.large else self._stores.data_load
        offsets = deque(range(0, total, PART))
        under_way: deque[asyncio.Task[WithData[Loaded]]] = deque()
        try:
            while offsets or under_way:
                while offsets and len(under_way) < RANGES_AHEAD:
                    offset = offsets.popleft()
                    wanted = Range(
                        data_store_uuid=found.ids.data_store_uuid, offset=offset, length=min(PART, total - offset)
                    )
                    under_way.append(asyncio.create_task(operation.call(wanted, deadline)))
                loaded = await under_way.popleft()
                if loaded.item.total != total:
                    raise PermanentError(FailureCode.INTEGRITY_FAILED, "data_size")
                yield loaded
        finally:
            for task in under_way:
                task.cancel()


async def _next(ranges: AsyncIterator[WithData[Loaded]]) -> WithData[Loaded]:
    return await anext(ranges)


def _missing(error: PermanentError) -> PermanentError:
    """A map row whose key or object is not there: a piece was lost or removed, not a record that never was."""
    if error.code is FailureCode.NOT_FOUND:
        return PermanentError(FailureCode.INTEGRITY_FAILED, "missing_piece")
    return error
