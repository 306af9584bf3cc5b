"""What only the S3 backend can get wrong: credentials, certificates, lost servers and buckets, and what it logs."""

import logging
from pathlib import Path
from uuid import uuid4

import botocore
import pytest

from contracts.failures import FailureCode, TransientError
from contracts.stores import Unwanted
from tests.stores.conftest import ACCESS_KEY, SECRET_KEY
from tests.stores.test_backends import Blob, Pack, dump, read, refuses, send
from workers.datastore.s3 import S3Backend
from workers.datastore.settings import S3Settings


async def _opens(settings: S3Settings) -> None:
    async with S3Backend.open(settings, connections=1):
        pass


async def test_a_wrong_secret_key_stops_the_service(rclone: S3Settings, tmp_path: Path) -> None:
    """A server that does not accept the key is noticed at the start, not at the first object."""
    (tmp_path / "wrong").write_text("wrong")
    with pytest.raises(TransientError, match="s3_"):
        await _opens(rclone.model_copy(update={"secret_key_file": tmp_path / "wrong"}))


async def test_a_server_of_another_ca_is_refused(rclone: S3Settings) -> None:
    """Only the given CA is believed; the system's are not."""
    public_cas = Path(botocore.__file__).with_name("cacert.pem")
    with pytest.raises(TransientError, match="s3_unreachable"):
        await _opens(rclone.model_copy(update={"ca_file": public_cas}))


async def test_a_missing_bucket_stops_the_service(rclone: S3Settings) -> None:
    """A bucket that is not there is an error, not an empty store."""
    with pytest.raises(TransientError, match="s3_"):
        await _opens(rclone.model_copy(update={"bucket": "no-such-bucket"}))


async def test_a_bucket_that_went_away_is_not_an_empty_store(moto: S3Settings) -> None:
    """Objects in a lost bucket are unavailable, not missing."""
    async with S3Backend.open(moto, connections=1) as backend:
        lost = S3Backend(backend._client, "no-such-bucket")
        blob = Blob.of(10)
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await read(lost, uuid4())
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await dump(lost, blob)
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await lost.erase([Unwanted(data_store_uuid=blob.id)])


async def test_a_server_that_is_gone_is_unavailable(rclone: S3Settings) -> None:
    """A refused connection is `store_unavailable`."""
    with pytest.raises(TransientError, match="s3_unreachable"):
        await _opens(rclone.model_copy(update={"endpoint_url": "https://localhost:1"}))


async def test_nothing_secret_is_logged(rclone: S3Settings, caplog: pytest.LogCaptureFixture) -> None:
    """Even when somebody turns debugging on, no key, signature, content or object id reaches a log."""
    blob, other = Blob.of(500), Blob.of(10)
    with caplog.at_level(logging.DEBUG):
        async with S3Backend.open(rclone, connections=1) as backend:
            await dump(backend, blob)
            upload_id = (await backend.begin(other.data)).upload_id
            await send(backend, other, upload_id, [1])
            await backend.erase([Unwanted(data_store_uuid=other.id, upload_id=upload_id)])
            await read(backend, blob.id)
    for secret in (ACCESS_KEY + "/", SECRET_KEY, "Signature", blob.id.hex, blob.content[:8].hex()):
        assert secret not in caplog.text


@pytest.mark.parametrize(("server", "left"), [("moto", [2, 3, 4, 5]), ("rclone", [1, 2, 3, 4, 5])])
async def test_an_entry_that_another_worker_erases_meanwhile_stays_erased(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, server: str, left: list[int]
) -> None:
    """Between one worker's reading of the pack and its writing, another one takes out an entry of its own.

    rclone ignores `If-Match`: there the other's entry is back in the pack, so one worker only may use such a server.
    """
    settings: S3Settings = request.getfixturevalue(server)
    read, pack = S3Backend._left, Pack.of(*[500] * 6)
    async with S3Backend.open(settings, connections=1) as backend, S3Backend.open(settings, connections=1) as other:
        await pack.dump(backend)

        async def overtaken(self: S3Backend, key: str, entries: set[int]) -> object:
            told = await read(self, key, entries)
            monkeypatch.undo()
            await other.erase(pack.unwanted(1))
            return told

        monkeypatch.setattr(S3Backend, "_left", overtaken)
        await backend.erase(pack.unwanted(0))
        assert await pack.readable(backend) == left


async def test_a_pack_that_comes_while_its_entry_is_erased_keeps_the_others(
    moto: S3Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that found no object does not write a tombstone over the one that another worker has just made."""
    read, pack = S3Backend._left, Pack.of(*[500] * 3)
    async with S3Backend.open(moto, connections=1) as backend, S3Backend.open(moto, connections=1) as other:

        async def overtaken(self: S3Backend, key: str, entries: set[int]) -> object:
            told = await read(self, key, entries)
            monkeypatch.undo()
            await pack.dump(other)
            return told

        monkeypatch.setattr(S3Backend, "_left", overtaken)
        await backend.erase(pack.unwanted(0))
        assert await pack.readable(backend) == [1, 2]
