"""What the same machine does bare: an RPC echo, a two-hop relay, and S3, over the same broker, server and TLS."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from bench.peers import PREFETCH, connected
from bench.scratch import scratch_settings
from contracts.limits import MIB, PART
from infra.local.stack import Stack

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

REPLY_TO: Final = "amq.rabbitmq.reply-to"
PARTS_AHEAD: Final = 4  # parts on their way at once, as many as the vault has
BUCKET: Final = "objects"
KEY: Final = "bench"


class Caller:
    """Calls by direct reply-to on one channel."""

    def __init__(self, channel: AbstractChannel) -> None:
        """Publish on `channel`; `Caller.open` makes one."""
        self._channel = channel
        self._pending: dict[str, asyncio.Future[bytes]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, stack: Stack, *, confirms: bool) -> AsyncIterator["Caller"]:
        """Connect to the scratch vhost."""
        settings = scratch_settings(stack)
        async with await connected(settings.url, settings.ssl_context()) as connection:
            channel = await connection.channel(publisher_confirms=confirms)
            caller = cls(channel)
            replies = await channel.declare_queue(REPLY_TO, passive=True)
            await replies.consume(caller._receive, no_ack=True)
            yield caller

    async def _receive(self, message: AbstractIncomingMessage) -> None:
        self._pending.pop(message.correlation_id or "").set_result(message.body)

    async def echo(self, body: bytes) -> bytes:
        """One round trip: two messages, no confirms."""
        correlation_id, reply = self._expect()
        request = aio_pika.Message(body, correlation_id=correlation_id, reply_to=REPLY_TO)
        await self._channel.default_exchange.publish(request, "echo", mandatory=False)
        return await reply

    async def relay(self, blob: bytes) -> None:
        """Send a blob over two hops in bodies of 1 MiB, a few ahead of their confirms; return when all arrived."""
        correlation_id, arrived = self._expect()
        window = asyncio.Semaphore(PREFETCH)

        async def send(at: int) -> None:
            last = at + MIB >= len(blob)
            asked = REPLY_TO if last else None
            try:
                message = aio_pika.Message(blob[at : at + MIB], reply_to=asked, correlation_id=correlation_id)
                await self._channel.default_exchange.publish(message, "relay")
            finally:
                window.release()

        async with asyncio.TaskGroup() as group:
            for at in range(0, len(blob), MIB):
                await window.acquire()
                group.create_task(send(at))
        await arrived

    def _expect(self) -> tuple[str, asyncio.Future[bytes]]:
        correlation_id = uuid.uuid4().hex
        future = self._pending[correlation_id] = asyncio.get_running_loop().create_future()
        return correlation_id, future


class RawS3:
    """Multipart PUT and GET, with the DataStore's own client library, key and part size."""

    def __init__(self, client: "S3Client") -> None:
        """Use an open client; `RawS3.open` makes one."""
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, stack: Stack) -> AsyncIterator["RawS3"]:
        """Connect to the stack's S3 server."""
        folder = stack.secrets.of("datastore")
        config = AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            proxies={},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = get_session().create_client(
            "s3",
            endpoint_url=f"https://localhost:{stack.layout.ports.s3}",
            region_name="us-east-1",
            aws_access_key_id=(folder / "s3.access").read_text(),
            aws_secret_access_key=(folder / "s3.secret").read_text(),
            verify=str(folder / "ca.pem"),
            config=config,
        )
        async with client as connected_client:
            yield cls(connected_client)

    async def put(self, blob: bytes) -> None:
        """Upload in parts."""
        upload = await self._client.create_multipart_upload(Bucket=BUCKET, Key=KEY)
        slots = asyncio.Semaphore(PARTS_AHEAD)

        async def send(number: int) -> "CompletedPartTypeDef":
            async with slots:
                part = blob[(number - 1) * PART : number * PART]
                stored = await self._client.upload_part(
                    Bucket=BUCKET, Key=KEY, UploadId=upload["UploadId"], PartNumber=number, Body=part
                )
            return {"PartNumber": number, "ETag": stored["ETag"]}

        async with asyncio.TaskGroup() as group:
            sent = [group.create_task(send(number)) for number in range(1, -(-len(blob) // PART) + 1)]
        await self._client.complete_multipart_upload(
            Bucket=BUCKET,
            Key=KEY,
            UploadId=upload["UploadId"],
            MultipartUpload={"Parts": [task.result() for task in sent]},
        )

    async def get(self) -> bytes:
        """Download whole."""
        found = await self._client.get_object(Bucket=BUCKET, Key=KEY)
        async with found["Body"] as body:
            return await body.read()
