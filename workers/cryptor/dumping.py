"""Dumps: encrypt, fan out, commit; the steps of `core.fanout` carried out, for one blob or for many at once.

Reads as the path of a dump: `_store` writes keys and data side by side, `_commit` puts the map rows, `_abort` and
`_erase` clear up. What may be concluded from what is decided by the core alone, for every blob by itself.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from contracts.edge import SUITE, ItemOutcome
from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
from contracts.limits import PART, PIECE
from contracts.stores import Data, Done, Failure, Key, Part, Parts, Row, RowState, Unwanted, entry_uuid
from messaging.together import together
from sealing.streams import Recutter
from workers.cryptor.core.fanout import Fanout, Ids, Seen, Step
from workers.cryptor.core.format import DataEncryptor, data_context, encrypted_size
from workers.cryptor.core.keys import Dek, Keyring, draw_object, draw_share, draw_uuid
from workers.cryptor.payloads import UploadLostError
from workers.cryptor.requests import Opened
from workers.cryptor.stores import Stores

PARTS_AHEAD: Final = 3  # parts of one record on their way to the DataStore, besides the one being filled
CLEAR_UP_SECONDS: Final = 20  # for aborting and erasing, beyond the attempt's own deadline
TURN: Final = 32  # small blobs that are encrypted, or rows that are signed, in one turn of the event loop: about 2 ms

T = TypeVar("T")

NO_MAC: Final = bytes(32)  # in a row that the keyring has not signed yet


@dataclass(slots=True)
class Blob:
    """One attempt at one item of a job."""

    item: int
    size: int  # bytes of plaintext
    fanout: Fanout
    plaintext: bytes | None = field(default=None, repr=False)  # of a small one
    map_share: bytes | None = field(default=None, repr=False)
    dek: Dek | None = None
    unsettled: bool = False  # MapStore did not say how it ended

    @property
    def ids(self) -> Ids:
        """What it drew."""
        if self.fanout.ids is None:
            raise RuntimeError("an abort has no ids")
        return self.fanout.ids

    @property
    def outcome(self) -> ItemOutcome:
        """What its client is told."""
        return ItemOutcome(external_uuid=self.fanout.external_uuid, code=self.fanout.code)

    def encryptor(self, owner: bytes) -> DataEncryptor:
        """Begin its encryption."""
        if self.dek is None or self.map_share is None:
            raise RuntimeError("an abort stores nothing")
        return DataEncryptor.begin(self.dek, data_context(self.ids.external_uuid, owner, self.map_share))


@dataclass(slots=True)
class Attempt:
    """One attempt at some items of a job: several small blobs that share an object, or one of any size."""

    opened: Opened
    deadline: float  # unix time, seconds; no commit is sent, or accepted, after it
    blobs: Sequence[Blob]
    stream: AsyncIterator[bytes] | None = field(default=None, repr=False)  # of a large one
    upload_id: str | None = None


class Dumper:
    """Carries attempts out."""

    def __init__(self, stores: Stores, keyring: Keyring) -> None:
        """Write to `stores` under keys of `keyring`."""
        self._stores = stores
        self._keyring = keyring
        self._steps: dict[Step, Callable[[Attempt, Sequence[Blob]], Awaitable[None]]] = {
            Step.STORE: self._store,
            Step.COMMIT: self._commit,
            Step.ABORT: self._abort,
            Step.ERASE: self._erase,
        }

    async def dump(self, opened: Opened, plaintext: AsyncIterator[bytes], deadline: float) -> ItemOutcome:
        """Make a record of the plaintext.

        Raises:
            TransientError: whether there is a record could not be found out, or the upload has to be read again: the
                job stays as it is, and another attempt settles it.
        """
        if encrypted_size(opened.head.size) > PART:
            blob = _drawn(opened, 0, opened.head.size, draw_ids())
            return (await self._run(Attempt(opened, deadline, [blob], plaintext)))[0]
        try:
            whole = b"".join([piece async for piece in plaintext])
        except UploadLostError as error:
            return (await self.abort(opened, error.code))[0]
        return (await self.dump_all(opened, 0, [whole], deadline))[0]

    async def dump_all(self, opened: Opened, first: int, blobs: Sequence[bytes], deadline: float) -> list[ItemOutcome]:
        """Make records of small blobs, items `first` and following of the job; their data shares an object.

        Raises:
            TransientError: as `dump`.
        """
        object_ = draw_object()
        drawn = [
            _drawn(opened, first + at, len(blob), Ids(draw_uuid(), entry_uuid(object_, at), draw_uuid()), blob)
            for at, blob in enumerate(blobs)
        ]
        return await self._run(Attempt(opened, deadline, drawn))

    async def abort(self, opened: Opened, code: FailureCode, items: Sequence[int] = (0,)) -> list[ItemOutcome]:
        """Settle items as failed with `code`, unless they are records already.

        Raises:
            TransientError: MapStore cannot be reached.
        """
        size = opened.head.size if opened.head.items == 1 else 0
        blobs = [Blob(item, size, Fanout(opened.head.request_tag, None, code)) for item in items]
        return await self._run(Attempt(opened, time.time(), blobs))

    async def _run(self, attempt: Attempt) -> list[ItemOutcome]:
        """Take every blob from step to step; those at the same step go together."""
        while waiting := [blob for blob in attempt.blobs if blob.fanout.step is not Step.DONE and not blob.unsettled]:
            step = waiting[0].fanout.step
            await self._steps[step](attempt, [blob for blob in waiting if blob.fanout.step is step])
        if any(blob.unsettled for blob in attempt.blobs):  # nothing may be said until MapStore has said it
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "unsettled")
        return [blob.outcome for blob in attempt.blobs]

    # --- steps ----------------------------------------------------------------------------------------------------

    async def _store(self, attempt: Attempt, blobs: Sequence[Blob]) -> None:
        if attempt.stream is None:
            failed = await self._store_small(attempt, blobs)
        else:
            failed = await self._store_large(attempt, blobs[0], attempt.stream)
        for blob in blobs:
            if code := failed.get(blob.item):
                blob.fanout.failed(code)
            else:
                blob.fanout.see(Seen.STORED)

    async def _commit(self, attempt: Attempt, blobs: Sequence[Blob]) -> None:
        for blob, code in await self._settle(attempt, blobs, RowState.LIVE, attempt.deadline):
            # Refused as too late, or never answered: the abort finds out which.
            blob.fanout.failed(FailureCode.STORE_UNAVAILABLE if code is FailureCode.EXPIRED else code)

    async def _abort(self, attempt: Attempt, blobs: Sequence[Blob]) -> None:
        deadline = max(attempt.deadline, time.time()) + CLEAR_UP_SECONDS
        for blob, _ in await self._settle(attempt, blobs, RowState.ABORTED, deadline):
            blob.unsettled = True

    async def _settle(
        self, attempt: Attempt, blobs: Sequence[Blob], state: RowState, deadline: float
    ) -> list[tuple[Blob, FailureCode]]:
        """Put map rows; tell blobs which rows won. Returns those of which MapStore did not say."""
        rows = [row async for row in _turns(blobs, lambda blob: self._row(attempt.opened, blob, state))]
        unanswered = []
        for blob, row, won in zip(blobs, rows, await self._stores.map_settle.each(rows, deadline), strict=True):
            if isinstance(won, Failure):
                unanswered.append((blob, won.code))
            elif isinstance(won.item, Done):
                blob.fanout.won_by(row)
            elif self._sound(row, won.item):
                blob.fanout.won_by(won.item)
            else:
                blob.fanout.doubt()
        return unanswered

    def _row(self, opened: Opened, blob: Blob, state: RowState) -> Row:
        ids = blob.ids if state is RowState.LIVE else None
        return self._keyring.sign_row(
            Row(
                owner=opened.owner,
                job_id=opened.head.job_id,
                item=blob.item,
                state=state,
                external_uuid=ids.external_uuid if ids else None,
                data_store_uuid=ids.data_store_uuid if ids else None,
                key_store_uuid=ids.key_store_uuid if ids else None,
                map_share=blob.map_share if ids else None,
                request_tag=opened.head.request_tag,
                size=blob.size,
                suite=SUITE,
                mac_key=1,
                mac=NO_MAC,
            )
        )

    def _sound(self, row: Row, won: Row) -> bool:
        """Whether a winning row is what the Cryptor once signed for this item."""
        try:
            self._keyring.verify_row(won)
        except PermanentError:
            return False
        return (won.owner, won.job_id, won.item) == (row.owner, row.job_id, row.item)

    async def _erase(self, attempt: Attempt, blobs: Sequence[Blob]) -> None:
        """Best effort: what is left the sweep collects."""
        deadline = time.time() + CLEAR_UP_SECONDS
        unwanted = [Unwanted(data_store_uuid=blob.ids.data_store_uuid, upload_id=attempt.upload_id) for blob in blobs]
        await self._stores.key_erase.each([blob.ids.key_store_uuid for blob in blobs], deadline)
        await self._stores.data_erase.each(unwanted, deadline)
        for blob in blobs:
            blob.fanout.see(Seen.ERASED)

    # --- keys and data --------------------------------------------------------------------------------------------

    def _key(self, opened: Opened, blob: Blob, data: DataEncryptor) -> Key:
        if blob.dek is None:
            raise RuntimeError("an abort stores nothing")
        wrapped = self._keyring.wrap(blob.dek, opened.owner, data.iv)
        return Key(key_store_uuid=blob.ids.key_store_uuid, key=wrapped, iv=data.iv)

    async def _store_small(self, attempt: Attempt, blobs: Sequence[Blob]) -> dict[int, FailureCode]:
        """Store keys, and data as entries of one object; which items failed, and why."""
        opened = attempt.opened

        def encrypt(blob: Blob) -> tuple[Key, Data, bytes]:
            data = blob.encryptor(opened.owner)
            whole = memoryview(blob.plaintext or b"")
            steps = [data.update(whole[at : at + PIECE]) for at in range(0, len(whole), PIECE)]
            encrypted = b"".join((*steps, data.finish()))
            entry = Data(data_store_uuid=blob.ids.data_store_uuid, auth_tag=data.auth_tag, size=len(encrypted))
            return self._key(opened, blob, data), entry, encrypted

        keys, entries, encrypted = zip(*[each async for each in _turns(blobs, encrypt)], strict=True)
        outcomes = await together(
            self._stores.key_dump.each(keys, attempt.deadline),
            self._stores.data_dump.each(entries, attempt.deadline, encrypted),
        )
        return {
            blob.item: FailureCode.STORE_UNAVAILABLE
            for told in outcomes
            for blob, outcome in zip(blobs, told, strict=True)
            if isinstance(outcome, Failure)
        }

    async def _store_large(self, attempt: Attempt, blob: Blob, stream: AsyncIterator[bytes]) -> dict[int, FailureCode]:
        """Store a key, and data in parts while it still arrives; why that failed, if it did.

        Raises:
            TransientError: the upload has to be read again.
        """
        data = blob.encryptor(attempt.opened.owner)
        key = self._key(attempt.opened, blob, data)
        try:
            await together(
                self._stores.key_dump.call(key, attempt.deadline), self._store_data(attempt, blob, stream, data)
            )
        except UploadLostError as error:
            return {blob.item: error.code}
        except VaultError as error:
            if isinstance(error, TransientError) and error.code is not FailureCode.STORE_UNAVAILABLE:
                raise  # not a store, but the upload's channel: it can be read again
            return {blob.item: FailureCode.STORE_UNAVAILABLE}
        return {}

    async def _store_data(
        self, attempt: Attempt, blob: Blob, stream: AsyncIterator[bytes], data: DataEncryptor
    ) -> None:
        total = encrypted_size(blob.size)
        what = Data(data_store_uuid=blob.ids.data_store_uuid, auth_tag=data.auth_tag, size=total)
        begun = await self._stores.data_begin.call(what, attempt.deadline)
        attempt.upload_id = begun.item.upload_id
        receipts = await self._store_parts(attempt, what, attempt.upload_id, _parts(stream, data))
        whole = Parts(
            data_store_uuid=what.data_store_uuid,
            upload_id=attempt.upload_id,
            auth_tag=what.auth_tag,
            total=total,
            receipts=receipts,
        )
        await self._stores.data_complete.call(whole, attempt.deadline)

    async def _store_parts(
        self, attempt: Attempt, what: Data, upload_id: str, parts: AsyncIterator[bytes]
    ) -> list[str]:
        """Send parts while the next ones are encrypted, a few at a time; their receipts in order."""
        ahead = asyncio.Semaphore(PARTS_AHEAD)

        async def send(number: int, part: bytes) -> str:
            try:
                sha256 = (await asyncio.to_thread(hashlib.sha256, part)).digest()
                item = Part(
                    data_store_uuid=what.data_store_uuid,
                    upload_id=upload_id,
                    auth_tag=what.auth_tag,
                    total=what.size,
                    number=number,
                    size=len(part),
                    sha256=sha256,
                )
                return (await self._stores.data_part.call(item, attempt.deadline, part)).item.receipt
            finally:
                ahead.release()

        sent: list[asyncio.Task[str]] = []
        async with asyncio.TaskGroup() as group:
            async for part in parts:
                await ahead.acquire()
                sent.append(group.create_task(send(len(sent) + 1, part)))
        return [task.result() for task in sent]


def draw_ids() -> Ids:
    """Fresh ids of a blob that has an object of its own."""
    return Ids(draw_uuid(), draw_object(), draw_uuid())


def _drawn(opened: Opened, item: int, size: int, ids: Ids, plaintext: bytes | None = None) -> Blob:
    return Blob(item, size, Fanout(opened.head.request_tag, ids), plaintext, draw_share(), Dek.draw())


async def _turns(blobs: Sequence[Blob], do: Callable[[Blob], T]) -> AsyncIterator[T]:
    """Do it for all of them without holding up the event loop."""
    for at, blob in enumerate(blobs):
        if at and at % TURN == 0:
            await asyncio.sleep(0)
        yield do(blob)


async def _parts(plaintext: AsyncIterator[bytes], data: DataEncryptor) -> AsyncIterator[bytes]:
    """Encrypted data in parts of `PART` bytes, the last one shorter and never empty."""
    recutter = Recutter(PART)
    async for piece in plaintext:
        for part in recutter.feed(data.update(piece)):
            yield part
    for part in recutter.feed(data.finish()):
        yield part
    if rest := recutter.rest():
        yield rest
