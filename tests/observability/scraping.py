"""Scraping the services of a stack, and telling what moved."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Set  # noqa: PYI025 - as in the annotations
from contextlib import asynccontextmanager, suppress
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from infra.local.stack import Stack
from tests.faults import pieces
from tests.faults.polling import until

SERVICES: Final = ("gateway", "cryptor", "keystore", "mapstore", "datastore")

Key = tuple[str, ...]  # service, sample, label values in order of their names
Moved = Counter[Key]
Expected = dict[Key, int]


async def page(stack: Stack, service: str) -> str:
    """A service's /metrics."""
    status, text = await asyncio.to_thread(stack.monitoring, service, "/metrics")
    assert status == 200
    return text


async def samples(stack: Stack, watched: Set[str]) -> Moved:
    """Samples of all services, as they are now, that have one of these names or label values."""
    found: Moved = Counter()
    for service in SERVICES:
        for family in text_string_to_metric_families(await page(stack, service)):
            for sample in family.samples:
                key = service, sample.name, *(sample.labels[name] for name in sorted(sample.labels))
                if not watched.isdisjoint(key):
                    found[key] = int(sample.value)
    return found


@asynccontextmanager
async def moves(stack: Stack, watched: Set[str], expected: Expected) -> AsyncIterator[None]:
    """What is done in this context moves the watched samples as expected, and none of them otherwise."""
    await pieces.all_over(stack)
    before = await samples(stack, watched)
    yield
    moved: Moved = Counter()

    async def arrived() -> bool:
        nonlocal moved
        moved = (await samples(stack, watched)) - before  # what did not move is not in the difference
        return moved == expected

    with suppress(AssertionError):
        await until(arrived, "they do not")
    assert moved == expected
