"""Calls to the stores that get no answer."""

import time
from uuid import uuid4

import pytest

from contracts import stores
from messaging.rpc import RpcClient
from workers.cryptor.stores import UNANSWERED, Operation


@pytest.mark.parametrize("seconds", [-60.0, 0.0])
async def test_a_call_without_time_left_ends_without_an_answer(seconds: float) -> None:
    """It is not sent, and nothing is repeated or complained of."""

    class Nobody(RpcClient):
        def __init__(self) -> None:
            """Be asked nothing."""

    load: Operation[object, stores.Key] = Operation(Nobody(), stores.KeyLoad, 1)
    assert await load.each([uuid4()], time.time() + seconds) == [UNANSWERED]
