"""Several things at once, failing as one: a task group whose first failure is raised plainly, not in a group."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def together(*every: Coroutine[Any, Any, Any]) -> list[Any]:
    """Await all; their results in order.

    The first failure cancels the others and is raised as it is, so that callers can tell dispositions apart.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each) for each in every]
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    return [task.result() for task in tasks]


def _first(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
