"""The three stores as the Cryptor calls them: one coalescer per operation, repeated until the attempt's deadline.

Every operation is idempotent under the ids that the Cryptor drew, so a call without an answer is simply made again.
Nothing here knows keys, contexts or what an outcome means for a record.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from uuid import UUID, uuid4

import stamina
from stamina.instrumentation import set_on_retry_hooks

from contracts import stores
from contracts.codec import Meta, Model, cut
from contracts.failures import FailureCode, NotOursError, PermanentError, TransientError
from contracts.limits import MIB, PAGE
from messaging import metrics
from messaging.coalescing import Coalescer
from messaging.logs import log
from messaging.rpc import RpcClient

set_on_retry_hooks([])  # its log lines would quote arguments

BATCH_ITEMS: Final = 256
BATCH_BYTES: Final = MIB
LARGE_WAYS: Final = 6  # large requests under way in all: what they hold in memory is bounded by it

UNANSWERED: Final = stores.Failure(code=FailureCode.STORE_UNAVAILABLE)
PASSING: Final = {FailureCode.STORE_UNAVAILABLE, FailureCode.BUSY}  # outcomes that a later try may not meet

Item = TypeVar("Item")
Outcome = TypeVar("Outcome", bound=Model)


@dataclass(frozen=True, slots=True)
class WithData(Generic[Item]):
    """An item or outcome and the bytes that travel beside it."""

    item: Item
    data: bytes | memoryview = field(default=b"", repr=False)


@dataclass(slots=True)
class _Call:
    """Items that one caller brings, with the bytes of all of them glued together."""

    items: Sequence[Any]
    data: Sequence[bytes | memoryview] = field(repr=False)
    deadline: float
    rpc: str = ""  # the message that it travelled in

    @property
    def size(self) -> int:
        """Bytes that it brings, or that its ranges ask for: either way a message has to hold them."""
        asked = sum(item.length for item in self.items if isinstance(item, stores.Range))
        return sum(map(len, self.data)) + asked


class Operation(Generic[Item, Outcome]):
    """One plural store operation. Calls that wait anyway travel together."""

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
        self._calls: Coalescer[_Call, list[WithData[Outcome] | stores.Failure]] = Coalescer(
            self._send,
            max_items=max_items,
            max_bytes=max_bytes,
            size=lambda call: call.size,
            count=lambda call: len(call.items),
            ways=ways,
        )

    async def call(self, item: Item, deadline: float, data: bytes | memoryview = b"") -> WithData[Outcome]:
        """One item's outcome.

        Raises:
            PermanentError: the store refused.
            TransientError: no answer until the deadline; what happened is unknown.
        """
        (outcome,) = await self.each([item], deadline, [data])
        if not isinstance(outcome, stores.Failure):
            return outcome
        raise (TransientError if outcome.code in PASSING else PermanentError)(outcome.code)

    async def each(
        self, items: Sequence[Item], deadline: float, data: Sequence[bytes | memoryview] = ()
    ) -> list[WithData[Outcome] | stores.Failure]:
        """The items' outcomes, in order; `store_unavailable` if there is none: what happened is unknown.

        Args:
            items: what the request type lists.
            deadline: unix time in seconds; until then what has no outcome is repeated.
            data: the items' raw bytes, if they have any.
        """
        outcomes: list[WithData[Outcome] | stores.Failure] = [UNANSWERED] * len(items)
        left: Sequence[int] = range(len(items))

        async def ask() -> None:
            nonlocal left
            some = _Call([items[at] for at in left], [data[at] for at in left] if data else (), deadline)
            try:
                answered = await self._calls.call(some)
            except TransientError as error:
                told = {"type": self._request.TYPE, "rpc": some.rpc, "reason": error.reason}
                log.warning("a store did not answer", action="store.failed", **told)
                raise
            log.debug("a store answered", action="store.answered", type=self._request.TYPE, rpc=some.rpc)
            for at, outcome in zip(left, answered, strict=True):
                outcomes[at] = outcome
            left = [at for at in left if _passing(outcomes[at])]
            if left:
                raise TransientError(FailureCode.STORE_UNAVAILABLE)

        with suppress(TransientError):
            try:
                await ask()
            except TransientError:
                if (seconds := deadline - time.time()) > 0:
                    again = stamina.AsyncRetryingCaller(attempts=None, timeout=seconds, wait_initial=0.05, wait_max=2.0)
                    await again(TransientError, ask)
        return outcomes

    async def _send(self, batch: Sequence[_Call]) -> list[list[WithData[Outcome] | stores.Failure]]:
        """One message for the calls that still have time; the deadline of the most pressed holds for all of them."""
        now = time.time()
        live = [call for call in batch if call.deadline > now]
        if not live:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "deadline")
        deadline = min(now + self._seconds, *(call.deadline for call in live))
        outcomes = iter(await self._exchange(live, deadline))
        return [
            [next(outcomes) for _ in call.items] if call.deadline > now else [UNANSWERED] * len(call.items)
            for call in batch
        ]

    async def _exchange(self, calls: Sequence[_Call], deadline: float) -> list[Any]:
        items = [item for call in calls for item in call.items]
        body = [piece for call in calls for piece in call.data]
        rpc = uuid4().hex
        for call in calls:
            call.rpc = rpc
        kind = self._request.TYPE
        metrics.observe(metrics.MESSAGE_ITEMS, kind, value=len(items))
        reply: Any
        reply, answered = await self._rpc.call(
            self._request(items=items), body, stores.REPLIES[self._request], deadline, rpc=rpc
        )
        if len(reply.outcomes) != len(items):
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "outcome_count")
        codes = [outcome.code if isinstance(outcome, stores.Failure) else None for outcome in reply.outcomes]
        metrics.count_outcomes(metrics.RPC_CLIENT_ITEMS, kind, codes=codes)
        sizes = [outcome.size if isinstance(outcome, stores.Loaded) else 0 for outcome in reply.outcomes]
        try:
            pieces = cut(answered, sizes)
        except NotOursError:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "reply_size") from None
        return [
            outcome if isinstance(outcome, stores.Failure) else WithData(outcome, data)
            for outcome, data in zip(reply.outcomes, pieces, strict=True)
        ]


def _passing(outcome: object) -> bool:
    return isinstance(outcome, stores.Failure) and outcome.code in PASSING


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
        self.map_settle: Operation[stores.Row, stores.Done | stores.Row] = Operation(
            mapstore, stores.MapSettle, seconds
        )
        self.map_load: Operation[UUID, stores.Row] = Operation(mapstore, stores.MapLoad, seconds)
        # A sweep's calls are its own, so that none of them stands before a dump's.
        self.key_list: Operation[stores.Listing, stores.Page] = Operation(
            keystore, stores.KeyList, seconds, max_items=1
        )
        self.key_sweep: Operation[stores.Verdict, stores.Done] = Operation(keystore, stores.KeySweep, seconds)
        self.key_mark: Operation[stores.Mark, stores.Mark] = Operation(keystore, stores.KeyMark, seconds, max_items=1)
        self.data_list: Operation[stores.Listing, stores.Page] = Operation(
            datastore, stores.DataList, 3 * seconds, max_items=1
        )
        self.data_sweep: Operation[stores.Verdict, stores.Done] = Operation(datastore, stores.DataSweep, 3 * seconds)
        self.data_clean: Operation[stores.Stale, stores.Cleaned] = Operation(
            datastore, stores.DataClean, 3 * seconds, max_items=1
        )
        self.map_names: Operation[stores.Reference, stores.Named] = Operation(
            mapstore, stores.MapNames, seconds, max_items=PAGE
        )
        self.map_count: Operation[stores.RowState, stores.Counted] = Operation(
            mapstore, stores.MapCount, 3 * seconds, max_items=1
        )
