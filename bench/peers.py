"""The other ends of the baselines, each a process of its own: `python -m bench.peers ROLE URL FOLDER`.

They do nothing but pass bytes on: no seal, no disk, no database, no meaning.
"""

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aio_pika
import uvloop
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from bench.scratch import USER, VHOST
from infra.local.settings import broker_url
from infra.local.stack import REPOSITORY, Stack
from infra.settings import certificate
from messaging.settings import BrokerSettings

PREFETCH: Final = 8  # messages that a relay holds: as many as a client has unconfirmed
READY: Final = "ready\n"


async def _echo(channel: AbstractChannel) -> None:
    """Answer every request with its own body."""
    queue = await channel.declare_queue("echo")

    async def answer(request: AbstractIncomingMessage) -> None:
        reply = aio_pika.Message(request.body, correlation_id=request.correlation_id)
        await channel.default_exchange.publish(reply, request.reply_to or "", mandatory=False)

    await queue.consume(answer, no_ack=True)


async def _relay(channel: AbstractChannel) -> None:
    """Pass every message on; ack it when the broker has it again."""
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue("relay")

    async def forward(message: AbstractIncomingMessage) -> None:
        onward = aio_pika.Message(message.body, reply_to=message.reply_to, correlation_id=message.correlation_id)
        await channel.default_exchange.publish(onward, "sink")
        await message.ack()

    await queue.consume(forward)


async def _sink(channel: AbstractChannel) -> None:
    """Take everything; say so when a message asks for it."""
    await channel.set_qos(prefetch_count=PREFETCH)
    queue = await channel.declare_queue("sink")

    async def take(message: AbstractIncomingMessage) -> None:
        await message.ack()
        if message.reply_to:
            done = aio_pika.Message(b"", correlation_id=message.correlation_id)
            await channel.default_exchange.publish(done, message.reply_to, mandatory=False)

    await queue.consume(take)


ROLES: Final = {"echo": (_echo, False), "relay": (_relay, True), "sink": (_sink, False)}


async def connected(url: str, context: ssl.SSLContext) -> aio_pika.abc.AbstractConnection:
    """A plain connection by certificate."""
    return await aio_pika.connect(f"{url}?auth=external", ssl_context=context)


async def _serve(role: str, settings: BrokerSettings) -> None:
    serve, confirms = ROLES[role]
    async with await connected(settings.url, settings.ssl_context()) as connection:
        channel = await connection.channel(publisher_confirms=confirms)
        await serve(channel)
        sys.stdout.write(READY)
        sys.stdout.flush()
        await asyncio.Event().wait()


@contextmanager
def peer(role: str, stack: Stack) -> Iterator[None]:
    """Run one while the context is open; it ends with us, however we end."""
    argv = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "bench.peers"]
    argv += [role, broker_url(stack.layout, VHOST), str(stack.layout.root / USER)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:  # noqa: S603 - fixed argv
        try:
            if process.stdout is None or process.stdout.readline() != READY:
                raise RuntimeError(f"the baseline's {role} does not start; its error is above")
            yield
        finally:
            process.terminate()


def main() -> None:
    """Serve one role until terminated."""
    role, url, folder = sys.argv[1:]
    settings = BrokerSettings.model_validate({"url": url, **certificate(Path(folder), USER)})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(role, settings))


if __name__ == "__main__":
    main()
