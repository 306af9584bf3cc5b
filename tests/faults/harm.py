"""Doing harm to the processes of a stack, and to nobody else's."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

from infra.local.stack import REPOSITORY, Stack
from infra.local.supervision import log_file
from tests.faults.polling import SECONDS, until


@contextmanager
def frozen(stack: Stack, name: str) -> Iterator[None]:
    """Stop a service without its noticing (SIGSTOP); it goes on when the context ends, unless it was killed there."""
    _, pid = stack.status()[name]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def kill(stack: Stack, name: str) -> None:
    """Kill a service with SIGKILL and wait until its supervisor has it running again."""
    await asyncio.to_thread(stack.kill, name)


async def kill_broker(stack: Stack) -> None:
    """Kill the RabbitMQ node; its supervisor starts it again."""
    pid = (stack.layout.rabbitmq / "rabbitmq.pid").read_text()
    os.kill(int(pid), signal.SIGKILL)


async def kill_postgres(stack: Stack) -> None:
    """Kill the postmaster, which takes its backends along; its supervisor starts it again."""
    stack.supervisor.signal("postgres", "KILL")


@asynccontextmanager
async def another_cryptor(stack: Stack) -> AsyncIterator[None]:
    """A second Cryptor on the same queues, with the same keys, while the context is open."""
    with log_file(stack.layout, "another-cryptor").open("wb+") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "workers.cryptor",
            "--config",
            str(stack.layout.etc / "cryptor.toml"),
            stdin=DEVNULL,
            stdout=log,
            stderr=STDOUT,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

        async def ready() -> bool:
            return b'"service.ready"' in os.pread(log.fileno(), 1_000_000, 0)

        try:
            await until(ready, "the second Cryptor does not start")
            yield
        finally:
            process.terminate()
            async with asyncio.timeout(SECONDS):
                await process.wait()
