"""Every fault is mended before its test ends, and every live record still has its pieces."""

from collections.abc import AsyncIterator

import pytest

from infra.local.stack import Stack
from tests.faults import pieces
from trivault import Vault


@pytest.fixture(autouse=True)
async def mended(stack: Stack, vault: Vault) -> AsyncIterator[None]:
    """Nothing is frozen or down, every job has its end, nothing live was erased, and Alice dumps and loads as ever."""
    lacking = await pieces.missing(stack)  # rows that store tests made without pieces
    yield
    for name, (state, _) in stack.status().items():
        if state == "RUNNING":
            stack.supervisor.signal(name, "CONT")
    stack.up(tied=True)
    await pieces.all_over(stack)
    assert await vault.load(await vault.dump(b"as ever")) == b"as ever"
    assert not await pieces.missing(stack) - lacking
