"""The three store services as they run in the stack, asked the way the Cryptor asks them: over the broker, sealed."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from contracts.failures import FailureCode
from contracts.limits import PART
from contracts.stores import (
    DataBegin,
    DataBeginReply,
    DataComplete,
    DataCompleteReply,
    DataDump,
    DataDumpReply,
    DataErase,
    DataEraseReply,
    DataLoad,
    DataLoadReply,
    DataPart,
    DataPartReply,
    Done,
    Failure,
    KeyDump,
    KeyDumpReply,
    KeyErase,
    KeyEraseReply,
    KeyLoad,
    KeyLoadReply,
    Loaded,
    MapLoad,
    MapLoadReply,
    MapSettle,
    MapSettleReply,
    Range,
    Unwanted,
)
from infra.local.stack import Stack
from messaging.connection import Broker
from messaging.link import LinkKeys
from messaging.rpc import RpcClient
from tests.fix_stack import BrokerAs
from tests.stores.test_backends import Blob
from tests.stores.test_keystore import key, soon
from tests.stores.test_mapstore import aborted, external, item, live

Asking = Callable[[str], AbstractAsyncContextManager[RpcClient]]

NOT_FOUND = Failure(code=FailureCode.NOT_FOUND)


@pytest.fixture
def asking(stack: Stack, broker_as: BrokerAs) -> Asking:
    """A client of one store, with the Cryptor's own credentials and link key."""

    @asynccontextmanager
    async def client(store: str) -> AsyncIterator[RpcClient]:
        link = LinkKeys.from_file(stack.secrets.of("cryptor") / f"cryptor-{store}.json")
        async with (
            Broker.open(broker_as(f"svc.cryptor.{store}", store), "tests") as broker,
            RpcClient.open(broker, link) as opened,
        ):
            yield opened

    return client


async def test_the_keystore_answers(asking: Asking) -> None:
    """Dump, load and erase keys, several in one message, each with its own outcome."""
    first, second = key(), key()
    async with asking("keystore") as rpc:
        dumped, _ = await rpc.call(KeyDump(items=[first, second]), (), KeyDumpReply, soon())
        assert dumped.outcomes == [Done(), Done()]
        erase = KeyErase(items=[first.key_store_uuid])
        assert (await rpc.call(erase, (), KeyEraseReply, soon()))[0].outcomes == [Done()]
        load = KeyLoad(items=[first.key_store_uuid, second.key_store_uuid])
        assert (await rpc.call(load, (), KeyLoadReply, soon()))[0].outcomes == [NOT_FOUND, second]


async def test_the_mapstore_answers(asking: Asking) -> None:
    """Settle and load rows; MACs, shares and nulls survive the way there and back. Who lost is told the winner."""
    key = item()
    record, abort = live(key), aborted(item())
    async with asking("mapstore") as rpc:
        settled, _ = await rpc.call(MapSettle(items=[record, abort]), (), MapSettleReply, soon())
        assert settled.outcomes == [Done(), Done()]
        late, _ = await rpc.call(MapSettle(items=[aborted(key), record]), (), MapSettleReply, soon())
        assert late.outcomes == [record, Done()]
        loaded, _ = await rpc.call(MapLoad(items=[external(record)]), (), MapLoadReply, soon())
        assert loaded.outcomes == [record]


async def test_the_datastore_answers(asking: Asking) -> None:
    """Small objects share a message, a large one comes in parts, and bodies are cut where the items say."""
    blobs, large = [Blob.of(3), Blob.of(0), Blob.of(5)], Blob.of(PART + 7)
    async with asking("datastore") as rpc:
        dump = DataDump(items=[blob.data for blob in blobs])
        dumped, _ = await rpc.call(dump, [blob.content for blob in blobs], DataDumpReply, soon())
        assert dumped.outcomes == [Done()] * 3
        (begun,) = (await rpc.call(DataBegin(items=[large.data]), (), DataBeginReply, soon()))[0].outcomes
        assert not isinstance(begun, Failure)
        receipts = []
        for number in (1, 2):
            part, content = large.part(begun.upload_id, number)
            (receipt,) = (await rpc.call(DataPart(items=[part]), [content], DataPartReply, soon()))[0].outcomes
            assert not isinstance(receipt, Failure)
            receipts.append(receipt.receipt)
        complete = DataComplete(items=[large.parts(begun.upload_id, receipts)])
        assert (await rpc.call(complete, (), DataCompleteReply, soon()))[0].outcomes == [Done()]
        ranges = [Range(data_store_uuid=blob.id, offset=0, length=5) for blob in blobs]
        ranges.append(Range(data_store_uuid=large.id, offset=PART - 1, length=9))
        loaded, body = await rpc.call(DataLoad(items=ranges), (), DataLoadReply, soon())
        sizes = [outcome.size for outcome in loaded.outcomes if isinstance(outcome, Loaded)]
        assert sizes == [3, 0, 5, 8]
        assert bytes(body) == blobs[0].content + blobs[2].content + large.content[PART - 1 :]
        erase = DataErase(items=[Unwanted(data_store_uuid=large.id, upload_id=begun.upload_id)])
        assert (await rpc.call(erase, (), DataEraseReply, soon()))[0].outcomes == [Done()]
        gone, _ = await rpc.call(DataLoad(items=ranges[-1:]), (), DataLoadReply, soon())
        assert gone.outcomes == [NOT_FOUND]


async def test_a_whole_part_fits_into_one_reply(asking: Asking) -> None:
    """The largest range there is travels in one message, whatever its meta and seal add."""
    blob = Blob(Blob.of(0).id, os.urandom(32), os.urandom(PART))
    async with asking("datastore") as rpc:
        await rpc.call(DataDump(items=[blob.data]), [blob.content], DataDumpReply, time.time() + 20)
        whole = DataLoad(items=[Range(data_store_uuid=blob.id, offset=0, length=PART)])
        _, body = await rpc.call(whole, (), DataLoadReply, soon())
        assert bytes(body) == blob.content
