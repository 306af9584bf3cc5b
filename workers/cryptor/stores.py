"""The three stores as the Cryptor calls them: one coalescer per operation, repeated until the attempt's deadline.

Every operation is idempotent under the ids that the Cryptor drew, so a call without an answer is simply made again.
Nothing here knows keys, contexts or what an outcome means for a record.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

import stamina
from stamina.instrumentation import set_on_retry_hooks

from contracts import stores
from contracts.codec import Meta, Model, cut
from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import MIB
from messaging.coalescing import Coalescer
from messaging.rpc import RpcClient

set_on_retry_hooks([])  # its log lines would quote arguments

BATCH_ITEMS: Final = 256
BATCH_BYTES: Final = MIB
LARGE_WAYS: Final = 6  # large requests under way in all: what they hold in memory is bounded by it

PASSING: Final = {FailureCode.STORE_UNAVAILABLE, FailureCode.BUSY}  # outcomes that a later try may not meet

_Call = tuple[Any, bytes | memoryview, float]  # item, its bytes, deadline

Item = TypeVar("Item")
Outcome = TypeVar("Outcome", bound=Model)


@dataclass(frozen=True, slots=True)
class WithData(Generic[Item]):
    """An item or outcome and the bytes that travel beside it."""

    item: Item
    data: bytes | memoryview = field(default=b"", repr=False)


class Operation(Generic[Item, Outcome]):
    """One plural store operation, called one item at a time."""

    def __init__(
        self,
        rpc: RpcClient,
        request: Callable[..., Meta],
        seconds: float,
        *,
        max_items: int = BATCH_ITEMS,
        max_bytes: int = BATCH_BYTES,
        ways: int = 1,
    ) -> None:
        """Call `request` over `rpc`; one call may take `seconds`, one batch `max_items` and `max_bytes`."""
        self._rpc = rpc
        self._request: Any = request
        self._seconds = seconds
        self._calls = Coalescer(self._send, max_items=max_items, max_bytes=max_bytes, size=_size, ways=ways)

    async def call(self, item: Item, deadline: float, data: bytes | memoryview = b"") -> WithData[Outcome]:
        """One item's outcome.

        Args:
            item: what the request type lists.
            deadline: unix time in seconds; until then an unanswered call is repeated.
            data: the item's raw bytes.

        Raises:
            PermanentError: the store refused.
            TransientError: no answer until the deadline; what happened is unknown.
        """
        call = item, data, deadline
        try:
            return await self._once(call)
        except TransientError:
            return await self._persist(call, deadline)

    async def _once(self, call: _Call) -> WithData[Outcome]:
        outcome: WithData[Outcome] | stores.Failure = await self._calls.call(call)
        if not isinstance(outcome, stores.Failure):
            return outcome
        raise (TransientError if outcome.code in PASSING else PermanentError)(outcome.code)

    async def _persist(self, call: _Call, deadline: float) -> WithData[Outcome]:
        """Repeat until the deadline; whatever stands in the way, to the Cryptor it is the store."""
        left = max(deadline - time.time(), 0)
        try:
            return await stamina.AsyncRetryingCaller(attempts=None, timeout=left, wait_initial=0.05, wait_max=2.0)(
                TransientError, self._once, call
            )
        except TransientError as error:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, error.reason) from None

    async def _send(self, batch: Sequence[_Call]) -> Sequence[Any]:
        """One message for the calls that still have time; the deadline of the most pressed holds for all of them."""
        now = time.time()
        live = [call for call in batch if call[2] > now]
        if not live:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "deadline")
        deadline = min(now + self._seconds, *(each for *_, each in live))
        outcomes = iter(await self._exchange(live, deadline))
        late = stores.Failure(code=FailureCode.STORE_UNAVAILABLE)
        return [next(outcomes) if each > now else late for *_, each in batch]

    async def _exchange(self, calls: Sequence[_Call], deadline: float) -> list[Any]:
        request = self._request(items=[item for item, *_ in calls])
        reply: Any
        reply, body = await self._rpc.call(
            request, [data for _, data, _ in calls], stores.REPLIES[self._request], deadline
        )
        if len(reply.outcomes) != len(calls):
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "outcome_count")
        sizes = [outcome.size if isinstance(outcome, stores.Loaded) else 0 for outcome in reply.outcomes]
        return [
            outcome if isinstance(outcome, stores.Failure) else WithData(outcome, data)
            for outcome, data in zip(reply.outcomes, cut(body, sizes), strict=True)
        ]


def _size(call: _Call) -> int:
    """Bytes that a call brings, or that a range asks for: either way a message has to hold them."""
    item, data, _ = call
    return len(data) + (item.length if isinstance(item, stores.Range) else 0)


class Stores:
    """Everything the Cryptor asks of the three stores."""

    def __init__(self, keystore: RpcClient, datastore: RpcClient, mapstore: RpcClient, seconds: float) -> None:
        """Call over these clients; `seconds` bounds one call."""
        self.key_dump: Operation[stores.Key, stores.Done] = Operation(keystore, stores.KeyDump, seconds)
        self.key_load: Operation[UUID, stores.Key] = Operation(keystore, stores.KeyLoad, seconds)
        self.key_erase: Operation[UUID, stores.Done] = Operation(keystore, stores.KeyErase, seconds)
        self.data_dump: Operation[stores.Data, stores.Done] = Operation(datastore, stores.DataDump, seconds)
        self.data_begin: Operation[stores.Data, stores.Begun] = Operation(datastore, stores.DataBegin, seconds)
        # Parts and ranges are as large as a message gets: each travels alone, several at a time.
        self.data_part: Operation[stores.Part, stores.Receipt] = Operation(
            datastore, stores.DataPart, 3 * seconds, max_bytes=1, ways=LARGE_WAYS
        )
        self.data_complete: Operation[stores.Parts, stores.Done] = Operation(
            datastore, stores.DataComplete, 6 * seconds
        )
        self.data_load: Operation[stores.Range, stores.Loaded] = Operation(datastore, stores.DataLoad, seconds)
        self.data_range: Operation[stores.Range, stores.Loaded] = Operation(
            datastore, stores.DataLoad, 3 * seconds, max_items=1, ways=LARGE_WAYS
        )
        self.data_erase: Operation[stores.Unwanted, stores.Done] = Operation(datastore, stores.DataErase, seconds)
        self.map_settle: Operation[stores.Row, stores.Row] = Operation(mapstore, stores.MapSettle, seconds)
        self.map_load: Operation[UUID, stores.Row] = Operation(mapstore, stores.MapLoad, seconds)
