"""What only the directory backend can show: fsync before every answer, what a full or lost disk does, and its files."""

import asyncio
import fcntl
import os
import resource
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts.failures import FailureCode, TransientError
from contracts.limits import MIB, PART
from contracts.stores import Unwanted
from tests.stores.test_backends import Blob, dump, read, read_all, refuses, send
from workers.datastore.directory import DirectoryBackend

Calls = list[tuple[str, str]]


@pytest.fixture
async def directory(tmp_path: Path) -> AsyncIterator[DirectoryBackend]:
    """A backend on a directory of its own."""
    async with DirectoryBackend.open(tmp_path, threads=4) as backend:
        yield backend


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is asked of the disk, in order: (call, folder or file that it was asked for)."""
    made: Calls = []

    def spy(name: str) -> None:
        real = getattr(os, name)

        def called(target: Any, *rest: Any, **named: Any) -> Any:
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
            made.append((name, str(path)))
            return real(target, *rest, **named)

        monkeypatch.setattr(os, name, called)

    for name in ("pwrite", "fsync", "fdatasync", "link", "replace", "unlink"):
        spy(name)
    return made


def _order(calls: Calls, *names: str) -> list[str]:
    return [name for name, _ in calls if name in names]


async def test_a_dump_is_answered_after_both_fsyncs(directory: DirectoryBackend, calls: Calls) -> None:
    """The file reaches the disk before it gets its name, and the name reaches the disk before anybody hears of it."""
    blob = Blob.of(100)
    await dump(directory, blob)
    assert _order(calls, "pwrite", "fsync", "link") == ["pwrite", "pwrite", "fsync", "link", "fsync"]
    assert ("fsync", str(directory._object(blob.id).parent)) == [call for call in calls if call[0] == "fsync"][-1]


async def test_a_repeated_dump_puts_the_name_on_disk_again(directory: DirectoryBackend, calls: Calls) -> None:
    """The first attempt may have died between naming the object and the fsync of its folder."""
    blob = Blob.of(100)
    await dump(directory, blob)
    calls.clear()
    await dump(directory, blob)
    assert ("fsync", str(directory._object(blob.id).parent)) in calls


async def test_a_completion_is_answered_after_both_fsyncs(directory: DirectoryBackend, calls: Calls) -> None:
    """Parts are on disk before their receipts go out, the whole file before its name, the name before the answer."""
    blob = Blob.of(PART + 1)
    upload_id = (await directory.begin(blob.data)).upload_id
    calls.clear()
    receipts = await send(directory, blob, upload_id, [1, 2])
    assert _order(calls, "pwrite", "fdatasync") == ["pwrite", "fdatasync"] * 2
    calls.clear()
    complete = blob.parts(upload_id, receipts)
    await directory.complete(complete)
    folder = str(directory._object(blob.id).parent)
    assert _order(calls, "fsync", "link", "unlink") == ["fsync", "link", "fsync", "unlink"]
    assert calls[2] == ("fsync", folder)
    calls.clear()
    await directory.complete(complete)
    assert calls == [("fsync", folder)]


async def test_an_erase_is_answered_after_both_fsyncs(directory: DirectoryBackend, calls: Calls) -> None:
    """The tombstone is on disk before it takes the object's name, and the name is before the answer."""
    blob = Blob.of(100)
    await dump(directory, blob)
    calls.clear()
    await directory.erase([Unwanted(data_store_uuid=blob.id)])
    assert _order(calls, "pwrite", "fsync", "replace") == ["pwrite", "fsync", "replace", "fsync"]
    assert ("fsync", str(directory._object(blob.id).parent)) in calls


async def test_no_write_waits_for_a_new_folder(tmp_path: Path, directory: DirectoryBackend) -> None:
    """All 256 folders exist from the start, and a second worker on the same directory is content with them."""
    names = {folder.name for folder in _below(tmp_path / "objects")}
    assert names == {f"{number:02x}" for number in range(256)}
    async with DirectoryBackend.open(tmp_path, threads=1) as other:
        blob = Blob.of(10)
        await dump(other, blob)
        assert await read_all(directory, blob) == blob.content


async def test_only_the_service_can_read_its_files(tmp_path: Path, directory: DirectoryBackend) -> None:
    """Folders are 0700 and files 0600, whatever the umask allows, and nothing temporary is left."""
    blob = Blob.of(10)
    await dump(directory, blob)
    await directory.begin(Blob.of(10).data)
    await directory.erase([Unwanted(data_store_uuid=UUID(int=1 << 16))])
    modes = {(path.is_dir(), stat.S_IMODE(path.stat().st_mode)) for path in _below(tmp_path)}
    assert modes == {(True, 0o700), (False, 0o600)}
    assert not _below(tmp_path / "incoming")


def _below(folder: Path) -> list[Path]:
    return list(folder.rglob("*"))


@contextmanager
def _full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_fails_the_item_and_leaves_nothing(tmp_path: Path, directory: DirectoryBackend) -> None:
    """What does not fit is `store_unavailable`, leaves no piece behind, and works once there is room."""
    small, large = Blob.of(1000), Blob.of(MIB)
    with _full_disk(64 * 1024):
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await dump(directory, large)
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await directory.begin(large.data)
        await dump(directory, small)
    assert [path.name for path in _below(tmp_path) if path.is_file()] == [small.id.hex]
    await dump(directory, large)
    assert await read_all(directory, large) == large.content


async def test_a_disk_that_loses_a_write_fails_the_item(
    directory: DirectoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When fsync fails the object does not appear: its pages may be gone, and a second fsync would lie."""

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    blob = Blob.of(100)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with refuses(FailureCode.STORE_UNAVAILABLE):
            await dump(directory, blob)
    with refuses(FailureCode.NOT_FOUND):
        await read(directory, blob.id)


async def test_a_lost_volume_is_not_an_empty_store(tmp_path: Path, directory: DirectoryBackend) -> None:
    """Objects that cannot be seen because their folders are gone are unavailable, not missing."""
    blob = Blob.of(100)
    await dump(directory, blob)
    upload_id = (await directory.begin(blob.data.model_copy(update={"data_store_uuid": UUID(int=1 << 16)}))).upload_id
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    (tmp_path / "uploads").rename(tmp_path / "elsewhere too")
    with refuses(FailureCode.STORE_UNAVAILABLE):
        await read(directory, blob.id)
    with refuses(FailureCode.STORE_UNAVAILABLE):
        await directory.part(*Blob(UUID(int=1 << 16), blob.tag, blob.content).part(upload_id, 1))


async def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """A mistyped path or a volume that is not mounted stops the service instead of becoming a new, empty store."""
    with pytest.raises(TransientError, match="disk_enoent"):
        async with DirectoryBackend.open(tmp_path / "typo", threads=1):
            pass
    assert not (tmp_path / "typo").exists()


async def test_a_part_that_comes_late_does_not_touch_the_object(directory: DirectoryBackend) -> None:
    """A worker that has the upload open while another one completes it writes nothing any more."""
    blob = Blob.of(1000)
    upload_id = (await directory.begin(blob.data)).upload_id
    await send(directory, blob, upload_id, [1])
    path, target = directory._upload(blob.id, upload_id), directory._object(blob.id)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # we are the other worker, and complete
        other = Blob(blob.id, blob.tag, bytes(1000))
        late = asyncio.create_task(directory.part(*other.part(upload_id, 1)))
        await _until(lambda: _descriptors(path) == 2)
        path.rename(target)
    with refuses(FailureCode.NOT_FOUND):
        await late
    assert await read_all(directory, blob) == blob.content


def _descriptors(path: Path) -> int:
    """How often this process has a file open."""
    opened = [entry.readlink() for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return opened.count(path)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the kernel sets no asyncio.Event
            await asyncio.sleep(0.01)


async def test_a_part_must_agree_with_what_was_begun(directory: DirectoryBackend) -> None:
    """Another total or another auth_tag than the upload began with is refused: the header is on disk already."""
    blob = Blob.of(1000)
    upload_id = (await directory.begin(blob.data)).upload_id
    for wrong in (Blob(blob.id, bytes(32), blob.content), Blob(blob.id, blob.tag, blob.content[:-1])):
        with refuses(FailureCode.INVALID_REQUEST):
            await directory.part(*wrong.part(upload_id, 1))


async def test_an_upload_id_with_a_zero_byte_leads_nowhere(directory: DirectoryBackend) -> None:
    """What no file name can hold is an unknown upload too, not a crash."""
    blob = Blob.of(1000)
    with refuses(FailureCode.NOT_FOUND):
        await directory.part(*blob.part("0" * 31 + "\0", 1))
