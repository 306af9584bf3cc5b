"""`./dev demo`, `up`, `status` and `down`, as people type them: vaults of their own, of which nothing stays."""

import subprocess
from pathlib import Path

import pytest

from infra.local.layout import Layout
from infra.local.stack import REPOSITORY
from tests.command import TRIVAULT, environment

SECONDS = 100  # for any one command, on a busy machine


def dev(*arguments: object) -> str:
    """Run it; what it printed."""
    argv = [str(REPOSITORY / "dev"), *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603 - fixed argv
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_demo_brings_every_byte_back_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small and a 50 MiB record; no folder is left."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    printed = dev("demo")
    assert "52,428,800 bytes" in printed
    assert "Every byte came back" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(300)
def test_a_vault_that_stays_keeps_its_records_over_a_restart(tmp_path: Path) -> None:
    """`up` prints how to use it; `down` stops every process, and the next `up` finds the record."""
    root = tmp_path / "vault"
    layout = Layout(root)
    try:
        profile = root / "clients/me/profile.toml"
        assert f"export TRIVAULT_PROFILE={profile}" in dev("up", "--root", root)
        states = dict(line.split()[:2] for line in dev("status", "--root", root).splitlines())
        assert set(states.values()) == {"RUNNING"}
        assert {"rabbitmq", "postgres", "gateway", "cryptor", "keystore", "datastore", "mapstore"} <= states.keys()
        uuid = trivault(profile, "dump", REPOSITORY / "README.md").decode().strip()
        assert "its records stay" in dev("down", "--root", root)
        assert not layout.supervisor_socket.exists()
        dev("up", "--root", root)
        assert trivault(profile, "load", uuid) == (REPOSITORY / "README.md").read_bytes()
    finally:
        dev("down", "--root", root)
        layout.remove()


def trivault(profile: Path, *arguments: object) -> bytes:
    """Run a client's command; what it printed."""
    argv = [str(TRIVAULT), *map(str, arguments)]
    done = subprocess.run(argv, env=environment(profile), capture_output=True, timeout=SECONDS, check=True)  # noqa: S603 - fixed argv
    return done.stdout
