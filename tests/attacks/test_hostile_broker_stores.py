"""Between the Cryptor and a store: requests and replies altered, repeated, exchanged, invented, kept back."""

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import chain
from uuid import UUID, uuid4

import pytest

from contracts import stores, topology
from contracts.codec import encode
from contracts.failures import FailureCode
from infra.local.stack import Stack
from messaging.publishing import META
from tests.attacks.conftest import kept
from tests.attacks.mallory import (
    Act,
    First,
    Mallory,
    Message,
    Swapping,
    altering,
    doubling,
    dropping,
    passing,
    requests_of,
)
from trivault import Vault, VaultError

BLOB = os.urandom(2000)
LARGE = os.urandom(300_000)


def of_another_type(message: Message) -> Sequence[Message]:
    """The same under another type, or another correlation id: both are bound into the seal."""
    other = stores.KeyErase.TYPE if "keystore" in message.properties["type"] else stores.DataErase.TYPE
    return [message.having(type=other), message.having(correlation_id=uuid4().hex)]


@pytest.mark.parametrize("store", topology.STORES)
@pytest.mark.parametrize(
    "act",
    [First(altering), First(dropping), First(of_another_type), doubling],
    ids=["altered", "dropped", "relabelled", "doubled"],
)
async def test_a_dump_survives_what_is_done_to_its_requests(
    mallory: Mallory, vault: Vault, stack: Stack, store: str, act: Act
) -> None:
    """The store acts on nothing that was altered; what is lost is asked for again; a repetition changes nothing."""
    if isinstance(act, First):
        act = First(act._act)
    rows = len(stack.psql("mapstore", "SELECT item FROM map").splitlines())
    async with mallory.between(*requests_of(store), act):
        external_uuid = await vault.dump(BLOB)
        assert await vault.load(external_uuid) == BLOB
    assert len(stack.psql("mapstore", "SELECT item FROM map").splitlines()) == rows + 1


@pytest.mark.parametrize("act", [altering, dropping], ids=["altered", "dropped"])
async def test_a_dump_whose_data_never_arrives_fails_clearly(mallory: Mallory, vault: Vault, act: Act) -> None:
    """Time is all that it costs."""
    async with mallory.between(*requests_of(topology.DATASTORE), act):
        with pytest.raises(VaultError) as caught:
            await vault.dump(BLOB)
    # `internal` if the ledger's patience, which is short in tests, ends before the attempt's.
    assert caught.value.code in {FailureCode.STORE_UNAVAILABLE, FailureCode.INTERNAL}


def prefer_second(replies: list[Message]) -> Act:
    """Answer every call with an old reply first, under the call's own correlation id."""

    def act(reply: Message) -> Sequence[Message]:
        replies.append(reply)
        old = replies[0].having(correlation_id=reply.properties["correlation_id"])
        return [old, reply] if old.body != reply.body else [reply]

    return act


REPLIES: dict[str, Callable[[], Act]] = {
    "altered": lambda: First(altering),
    "dropped": lambda: First(dropping),
    "doubled": lambda: doubling,
    "replayed": lambda: prefer_second([]),
    "invented": lambda: lambda reply: [Message(os.urandom(200), reply.properties), reply],
    "unsealed": lambda: lambda reply: [Message(b'{"outcomes":[{}]}', reply.properties), reply],
}


@pytest.mark.parametrize("store", topology.STORES)
@pytest.mark.parametrize("name", REPLIES)
async def test_no_reply_is_believed_that_the_store_did_not_give(
    mallory: Mallory, vault: Vault, store: str, name: str
) -> None:
    """Forged replies are dropped, whether they come first or alone; the call is answered by the store, or repeated."""
    async with mallory.between_replies(store, REPLIES[name]()):
        for blob in (BLOB, LARGE):
            assert await vault.load(await vault.dump(blob)) == blob


@pytest.mark.parametrize("store", topology.STORES)
async def test_replies_that_are_exchanged_fit_no_call(mallory: Mallory, vault: Vault, store: str) -> None:
    """Two loads at once, each given the other's reply under its own correlation id: both end with their own bytes."""
    blobs = [os.urandom(1500) for _ in range(2)]
    uuids = [await vault.dump(blob) for blob in blobs]
    held: list[Message] = []

    def exchange(reply: Message) -> Sequence[Message]:
        held.append(reply)
        if len(held) != 2:
            return [reply] if len(held) > 2 else []
        first, second = (each.properties["correlation_id"] for each in held)
        return [held[0].having(correlation_id=second), held[1].having(correlation_id=first)]

    async with mallory.between_replies(store, exchange):
        loaded = await asyncio.gather(*(vault.load(each) for each in uuids), return_exceptions=True)
    for blob, told in zip(blobs, loaded, strict=True):
        assert told == blob or isinstance(told, VaultError)


async def test_reordered_requests_change_no_record(mallory: Mallory, vault: Vault) -> None:
    """Dumps at once, their requests in another order."""
    async with mallory.between(*requests_of(topology.MAPSTORE), First(Swapping(), 4)):
        blobs = [os.urandom(1000) for _ in range(8)]
        uuids = await asyncio.gather(*map(vault.dump, blobs))
        assert await asyncio.gather(*map(vault.load, uuids)) == blobs


async def test_recorded_requests_and_inventions_do_nothing(mallory: Mallory, vault: Vault, stack: Stack) -> None:
    """Everything that was ever asked of a store, asked again, of every store; and requests that she made up."""
    recorded: dict[str, list[Message]] = {}
    for store in topology.STORES:
        mallory.seen.clear()
        async with mallory.between(*requests_of(store), passing):
            assert await vault.load(await vault.dump(BLOB)) == BLOB
        recorded[store] = list(mallory.seen)
        assert recorded[store]
    before = kept(stack)
    sample = recorded[topology.KEYSTORE][0]
    unsealed = encode(stores.DataErase(items=[stores.Unwanted(data_store_uuid=_object(stack))]))
    invented = [
        Message(b"", {"type": stores.DataErase.TYPE, "headers": {META: unsealed.decode()}}),
        Message(unsealed, sample.properties | {"type": stores.DataErase.TYPE}),
        Message(os.urandom(5000), sample.properties),
        Message(b"", {}),
    ]
    for store in topology.STORES:
        for message in [*chain(*recorded.values()), *invented]:
            await mallory.publish(store, topology.STORE_REQUESTS, message)
    assert await vault.load(await vault.dump(LARGE)) == LARGE  # the stores have had their turn at all of it
    after = kept(stack)
    assert before <= after
    assert len(after) == len(before) + 3  # the key, the object and the row of that one record


def _object(stack: Stack) -> UUID:
    """An object that is there."""
    return UUID(next((stack.layout.objects / "objects").glob("*/*")).name)
