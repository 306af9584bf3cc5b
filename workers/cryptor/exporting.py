"""An export: many small records in one result, in the order in which they were asked for, each with its own outcome.

Map rows first, for as many records as fit; then keys and data of a group side by side, while the group before is being
sealed. Records that share an object are read together, so that a pack is read once. A record is in the result only if
it verified whole; one that did not is named there with its code, and its neighbours are not the worse for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from uuid import UUID

from contracts.codec import encode
from contracts.edge import ItemOutcome, Op
from contracts.failures import FailureCode, PermanentError
from contracts.limits import EXPORT_MAX, ITEM_MAX, PIECE
from contracts.lp import PREFIX, lp
from contracts.stores import Failure, Key, Loaded, Range, Row, object_uuid
from messaging import metrics
from messaging.together import together
from workers.cryptor.core.format import encrypted_size
from workers.cryptor.ingesting import GROUP_BYTES, GROUP_ITEMS, GROUPS_AHEAD
from workers.cryptor.loading import Found, Loader
from workers.cryptor.requests import Opened
from workers.cryptor.stores import Stores, WithData

TURN: Final = 32  # small records that are decrypted in one turn of the event loop: about 2 ms
FRAMING: Final = 2 * PREFIX + len(encode(ItemOutcome(external_uuid=UUID(int=0), code=FailureCode.STORE_UNAVAILABLE)))

Wanted = tuple[UUID, Found | FailureCode]  # a record, or why there is none
Read = tuple[WithData[Key] | Failure, WithData[Loaded] | Failure]  # what the stores say of one record


@dataclass(frozen=True, slots=True)
class Selection:
    """The records that an export answers with: those asked for, or the first of them."""

    wanted: Sequence[Wanted]

    @property
    def most(self) -> int:
        """Bytes of the result, if every record of it can be read."""
        return sum(FRAMING + (found.size if isinstance(found, Found) else 0) for _, found in self.wanted)


class Exporter:
    """Carries exports out."""

    def __init__(self, stores: Stores, loader: Loader) -> None:
        """Read from `stores` what `loader` accepts and decrypts."""
        self._stores = stores
        self._loader = loader

    async def select(self, opened: Opened, deadline: float) -> Selection:
        """Map rows of the records asked for, until their sizes fill an export. At least one record is selected."""
        asked = opened.secrets.external_uuids
        wanted: list[Wanted] = []
        room = EXPORT_MAX
        for at in range(0, len(asked), GROUP_ITEMS):
            some = asked[at : at + GROUP_ITEMS]
            for external_uuid, row in zip(some, await self._stores.map_load.each(some, deadline), strict=True):
                found = self._found(opened, external_uuid, row)
                room -= found.size if isinstance(found, Found) else 0
                if room < 0:
                    return Selection(wanted)
                wanted.append((external_uuid, found))
        return Selection(wanted)

    def _found(self, opened: Opened, external_uuid: UUID, row: WithData[Row] | Failure) -> Found | FailureCode:
        if isinstance(row, Failure):
            return row.code
        try:
            found = self._loader.accept(opened, external_uuid, row.item)
        except PermanentError as error:
            return error.code
        return found if found.size <= ITEM_MAX else FailureCode.BLOB_TOO_LARGE

    async def result(self, selection: Selection, deadline: float) -> AsyncIterator[bytes]:
        """LP(outcome) LP(blob) of every record, in order, in pieces of at most 1 MiB; without record an empty blob."""
        groups = _groups(selection.wanted)
        ahead: deque[tuple[list[Wanted], asyncio.Task[list[Read]]]] = deque()
        try:
            while True:
                while len(ahead) < GROUPS_AHEAD and (group := next(groups, None)):
                    records = [found for _, found in group if isinstance(found, Found)]
                    ahead.append((group, asyncio.create_task(self._read(records, deadline))))
                if not ahead:
                    return
                group, reading = ahead.popleft()
                reads = iter(await reading)
                async for piece in _merged(self._entry(*each, reads) for each in group):
                    yield piece
        finally:
            for _, reading in ahead:
                reading.cancel()

    async def _read(self, records: Sequence[Found], deadline: float) -> list[Read]:
        """Keys and data of a group."""
        if not records:
            return []
        keys = [found.ids.key_store_uuid for found in records]
        ranges = [
            Range(data_store_uuid=found.ids.data_store_uuid, offset=0, length=encrypted_size(found.size))
            for found in records
        ]
        read = await together(
            self._stores.key_load.each(keys, deadline), self._stores.data_range.each(ranges, deadline)
        )
        return list(zip(*read, strict=True))

    def _entry(self, external_uuid: UUID, found: Found | FailureCode, reads: Iterator[Read]) -> tuple[bytes, bytes]:
        code, blob = None, b""
        try:
            if not isinstance(found, Found):
                code = found
            else:
                blob = self._loader.decrypt(found, *next(reads))
        except PermanentError as error:
            code = error.code
        metrics.count_outcomes(metrics.RECORDS, Op.EXPORT, codes=[code])
        outcome = ItemOutcome(external_uuid=external_uuid, code=code)
        return lp(encode(outcome)) + len(blob).to_bytes(PREFIX, "big"), blob


def _groups(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Records that are read together; neighbours that share an object are not torn apart."""
    group: list[Wanted] = []
    size = 0
    for _, run in groupby(wanted, _object):
        pack = list(run)
        more = sum(encrypted_size(found.size) for _, found in pack if isinstance(found, Found))
        if group and (len(group) + len(pack) > GROUP_ITEMS or size + more > GROUP_BYTES):
            yield group
            group, size = [], 0
        group += pack
        size += more
    if group:
        yield group


def _object(wanted: Wanted) -> UUID | None:
    _, found = wanted
    return object_uuid(found.ids.data_store_uuid) if isinstance(found, Found) else None


async def _merged(entries: Iterable[tuple[bytes, bytes]]) -> AsyncIterator[bytes]:
    """Entries in pieces that suit one crypto step, without holding up the event loop."""
    parts: list[bytes] = []
    size = 0
    for at, entry in enumerate(entries):
        for part in entry:
            if size + len(part) > PIECE:
                yield b"".join(parts)
                parts, size = [], 0
            parts.append(part)
            size += len(part)
        if at % TURN == TURN - 1:
            await asyncio.sleep(0)
    yield b"".join(parts)
