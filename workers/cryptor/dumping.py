"""A dump: encrypt, fan out, commit; the steps of `core.fanout` carried out.

Reads as the path of a dump: `_store` writes key and data side by side, `_commit` puts the map row, `_abort` and
`_erase` clear up. What may be concluded from what is decided by the core alone.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from contracts.edge import SUITE, ItemOutcome
from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
from contracts.limits import PART
from contracts.stores import Data, Key, Part, Parts, Row, RowState, Unwanted
from messaging.together import together
from sealing.streams import Recutter
from workers.cryptor.core.fanout import Fanout, Ids, Seen, Step
from workers.cryptor.core.format import DataEncryptor, data_context, encrypted_size
from workers.cryptor.core.keys import Dek, Keyring, draw_share, draw_uuid
from workers.cryptor.payloads import UploadLostError
from workers.cryptor.requests import Opened
from workers.cryptor.stores import Stores

PARTS_AHEAD: Final = 3  # parts of one record on their way to the DataStore, besides the one being filled
CLEAR_UP_SECONDS: Final = 20  # for aborting and erasing, beyond the attempt's own deadline

NO_MAC: Final = bytes(32)  # in a row that the keyring has not signed yet


@dataclass(slots=True)
class Attempt:
    """One attempt at one record."""

    opened: Opened
    deadline: float  # unix time, seconds; no commit is sent, or accepted, after it
    fanout: Fanout
    plaintext: AsyncIterator[bytes] | None = None
    map_share: bytes | None = field(default=None, repr=False)
    dek: Dek | None = None
    upload_id: str | None = None

    @property
    def ids(self) -> Ids:
        """What it drew."""
        if self.fanout.ids is None:
            raise RuntimeError("an abort has no ids")
        return self.fanout.ids


class Dumper:
    """Carries attempts out."""

    def __init__(self, stores: Stores, keyring: Keyring) -> None:
        """Write to `stores` under keys of `keyring`."""
        self._stores = stores
        self._keyring = keyring
        self._steps: dict[Step, Callable[[Attempt], Awaitable[None]]] = {
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
        fanout = Fanout(opened.head.request_tag, Ids(draw_uuid(), draw_uuid(), draw_uuid()))
        return await self._run(Attempt(opened, deadline, fanout, plaintext, draw_share(), Dek.draw()))

    async def abort(self, opened: Opened, code: FailureCode) -> ItemOutcome:
        """Settle the job as failed with `code`, unless it is a record already.

        Raises:
            TransientError: MapStore cannot be reached.
        """
        return await self._run(Attempt(opened, time.time(), Fanout(opened.head.request_tag, None, code)))

    async def _run(self, attempt: Attempt) -> ItemOutcome:
        fanout = attempt.fanout
        while fanout.step is not Step.DONE:
            await self._steps[fanout.step](attempt)
        return ItemOutcome(external_uuid=fanout.external_uuid, code=fanout.code)

    # --- steps ----------------------------------------------------------------------------------------------------

    async def _store(self, attempt: Attempt) -> None:
        opened, ids = attempt.opened, attempt.ids
        if attempt.dek is None or attempt.map_share is None or attempt.plaintext is None:
            raise RuntimeError("an abort stores nothing")
        data = DataEncryptor.begin(attempt.dek, data_context(ids.external_uuid, opened.owner, attempt.map_share))
        wrapped = self._keyring.wrap(attempt.dek, opened.owner, data.iv)
        key = Key(key_store_uuid=ids.key_store_uuid, key=wrapped, iv=data.iv)
        try:
            await together(
                self._stores.key_dump.call(key, attempt.deadline), self._store_data(attempt, attempt.plaintext, data)
            )
        except UploadLostError as error:
            attempt.fanout.failed(error.code)
        except VaultError as error:
            if isinstance(error, TransientError) and error.code is not FailureCode.STORE_UNAVAILABLE:
                raise  # not a store, but the upload's channel: it can be read again
            attempt.fanout.failed(FailureCode.STORE_UNAVAILABLE)
        else:
            attempt.fanout.see(Seen.STORED)

    async def _commit(self, attempt: Attempt) -> None:
        ids, head = attempt.ids, attempt.opened.head
        row = Row(
            owner=attempt.opened.owner,
            job_id=head.job_id,
            item=0,
            state=RowState.LIVE,
            external_uuid=ids.external_uuid,
            data_store_uuid=ids.data_store_uuid,
            key_store_uuid=ids.key_store_uuid,
            map_share=attempt.map_share,
            request_tag=head.request_tag,
            size=head.size,
            suite=SUITE,
            mac_key=1,
            mac=NO_MAC,
        )
        try:
            await self._settle(attempt, row, attempt.deadline)
        except VaultError as error:  # refused as too late, or never answered: the abort finds out which
            late = error.code is FailureCode.EXPIRED
            attempt.fanout.failed(FailureCode.STORE_UNAVAILABLE if late else error.code)

    async def _abort(self, attempt: Attempt) -> None:
        head = attempt.opened.head
        row = Row(
            owner=attempt.opened.owner,
            job_id=head.job_id,
            item=0,
            state=RowState.ABORTED,
            request_tag=head.request_tag,
            size=head.size,
            suite=SUITE,
            mac_key=1,
            mac=NO_MAC,
        )
        try:
            await self._settle(attempt, row, max(attempt.deadline, time.time()) + CLEAR_UP_SECONDS)
        except VaultError:  # nothing may be said until MapStore has said it
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "unsettled") from None

    async def _settle(self, attempt: Attempt, row: Row, deadline: float) -> None:
        won = (await self._stores.map_settle.call(self._keyring.sign_row(row), deadline)).item
        try:
            self._keyring.verify_row(won)
        except PermanentError:
            attempt.fanout.doubt()
            return
        if (won.owner, won.job_id, won.item) != (row.owner, row.job_id, row.item):
            attempt.fanout.doubt()
        else:
            attempt.fanout.won_by(won)

    async def _erase(self, attempt: Attempt) -> None:
        ids = attempt.ids
        deadline = time.time() + CLEAR_UP_SECONDS
        unwanted = Unwanted(data_store_uuid=ids.data_store_uuid, upload_id=attempt.upload_id)
        for erasing in (
            self._stores.key_erase.call(ids.key_store_uuid, deadline),
            self._stores.data_erase.call(unwanted, deadline),
        ):
            try:
                await erasing
            except VaultError:
                continue  # the sweep collects it
        attempt.fanout.see(Seen.ERASED)

    # --- data -----------------------------------------------------------------------------------------------------

    async def _store_data(self, attempt: Attempt, plaintext: AsyncIterator[bytes], data: DataEncryptor) -> None:
        total = encrypted_size(attempt.opened.head.size)
        what = Data(data_store_uuid=attempt.ids.data_store_uuid, auth_tag=data.auth_tag, size=total)
        parts = _parts(plaintext, data)
        if total <= PART:
            encrypted = b"".join([part async for part in parts])
            await self._stores.data_dump.call(what, attempt.deadline, encrypted)
            return
        begun = await self._stores.data_begin.call(what, attempt.deadline)
        attempt.upload_id = begun.item.upload_id
        receipts = await self._store_parts(attempt, what, attempt.upload_id, parts)
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
