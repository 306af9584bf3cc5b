"""A file appears under its name when it is whole, for its owner only, or not at all."""

from pathlib import Path

import pytest

from trivault.sinks import FileSink, MemorySink


async def test_a_file_appears_when_it_is_committed(tmp_path: Path) -> None:
    """Until then there is only a hidden temporary file beside it, mode 0600 from its first byte on."""
    target = tmp_path / "target"
    sink = FileSink(target)
    await sink.write(b"one")
    (hidden,) = listed(tmp_path)
    assert hidden.name.startswith(".target.")
    assert mode(hidden) == 0o600
    await sink.write(b"two")
    await sink.commit()
    await sink.discard()
    assert listed(tmp_path) == [target]
    assert content(target) == b"onetwo"
    assert mode(target) == 0o600


async def test_a_discarded_file_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    """The old file under that name stays as it was."""
    target = tmp_path / "target"
    fill(target, b"old")
    sink = FileSink(target)
    await sink.write(b"new")
    await sink.discard()
    assert listed(tmp_path) == [target]
    assert content(target) == b"old"


async def test_a_restarted_result_begins_again(tmp_path: Path) -> None:
    """Nothing of the first attempt remains, however much longer it was."""
    memory, file = MemorySink(), FileSink(tmp_path / "target")
    for sink in (memory, file):
        await sink.write(b"a longer first attempt")
        await sink.restart()
        await sink.write(b"second")
    await file.commit()
    assert memory.value() == content(tmp_path / "target") == b"second"


def test_a_folder_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    """Before anything is asked of the vault."""
    with pytest.raises(FileNotFoundError):
        FileSink(tmp_path / "gone" / "target")


def listed(folder: Path) -> list[Path]:
    """What is in a folder."""
    return list(folder.iterdir())


def content(file: Path) -> bytes:
    """What is in a file."""
    return file.read_bytes()


def fill(file: Path, data: bytes) -> None:
    """Write a file."""
    file.write_bytes(data)


def mode(file: Path) -> int:
    """A file's permissions."""
    return file.stat().st_mode & 0o777
