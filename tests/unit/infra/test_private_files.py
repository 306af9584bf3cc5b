"""Files with secrets: private from the first byte, whole or absent."""

import os
import stat
from pathlib import Path

import pytest

from infra.files import private_folder, write, write_json


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> int:
    """Whatever the operator's is."""
    return int(request.param)


@pytest.mark.parametrize(("mode", "expected"), [(None, 0o600), (0o644, 0o644)])
def test_the_mode_is_the_one_asked_for(tmp_path: Path, umask: int, mode: int | None, expected: int) -> None:
    """0600 unless told otherwise; the umask changes nothing."""
    before = os.umask(umask)
    try:
        write(tmp_path / "file", "text", *([mode] if mode else []))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected
    assert (tmp_path / "file").read_text() == "text"


def test_a_file_that_others_could_read_is_replaced_by_a_private_one(tmp_path: Path) -> None:
    """Its old mode is not kept, and who had it open reads the old text."""
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o666)
    with file.open() as opened:
        write(file, b"new")
        assert opened.read() == "old"
    assert file.read_text() == "new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_laid_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """Neither where the file goes, nor where it is written first."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("file", ".file.new"):
        (tmp_path / name).symlink_to(victim)
    write(tmp_path / "file", "secret")
    assert victim.read_text() == "mine"
    assert not (tmp_path / "file").is_symlink()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole or not at all; and the next one is not in the way of what was left."""
    file = tmp_path / "file"
    write(file, "old")

    def full(_descriptor: int) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="the disk is full"):
            write(file, "new")
    assert file.read_text() == "old"
    write(file, "newer")
    assert file.read_text() == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json_is_written_like_any_other(tmp_path: Path) -> None:
    """Private and readable by people."""
    write_json(tmp_path / "file", {"a": 1})
    assert (tmp_path / "file").read_text() == '{\n  "a": 1\n}\n'
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_a_folder_is_made_private_or_becomes_it(tmp_path: Path) -> None:
    """With its parents; one that was open to others is closed."""
    made = private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    made.chmod(0o777)
    assert stat.S_IMODE(private_folder(made).stat().st_mode) == 0o700
