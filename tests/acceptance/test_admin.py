"""`trivault-admin`: enrolment on a live vault, and what it refuses."""

import json
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from infra import enrolment
from infra.enrolment import EnrolmentError
from infra.local.stack import Stack
from infra.provision import provision
from trivault import Profile

ADMIN = Path(sys.executable).with_name("trivault-admin")


def run(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command on the vault below `root`, with JSON."""
    argv = [str(ADMIN), "client", *map(str, arguments), "--root", str(root), "--json"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - fixed argv


def refusal(root: Path, *arguments: object) -> tuple[int, str, str]:
    """Exit code, error and advice of a command that prints no result."""
    done = run(root, *arguments)
    assert done.stdout == ""
    told: dict[str, Any] = json.loads(done.stderr)
    return done.returncode, told["error"], told["advice"]


def fresh() -> str:
    """A name that nobody has."""
    return f"n{secrets.token_hex(4)}"


def test_a_client_enrolled_on_a_live_vault_can_dump_at_once(stack: Stack, tmp_path: Path) -> None:
    """Gateway and Cryptor read the registry again; the profile and its files are complete and private."""
    name, profile = fresh(), tmp_path / "profile.toml"
    tmp_path.chmod(0o755)
    done = run(stack.layout.root, "add", name, "--operator", "--profile-out", profile)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"name": name, "operator": True, "profile": str(profile)}
    dump = [str(ADMIN.with_name("trivault")), "dump", str(ADMIN), "--profile", str(profile)]
    dumped = subprocess.run(dump, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - fixed argv
    assert (dumped.returncode, dumped.stderr) == (0, "")
    assert UUID(dumped.stdout.strip()).version == 4
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"profile.toml": 0o600, f"{name}.key": 0o600, f"{name}.pem": 0o644, "ca.pem": 0o644}
    assert tmp_path.stat().st_mode & 0o777 == 0o755  # somebody else's folder stays as it was
    listed = [json.loads(line) for line in run(stack.layout.root, "list").stdout.splitlines()]
    client_id = Profile.read(profile).client_id
    assert {"name": name, "client_id": client_id, "operator": True} in listed


@pytest.mark.parametrize("name", ["svc.gateway", "Alice", "a_b", "a" * 33, "7up", "", "a.b", "a\n", "../a"])
def test_names_that_are_no_clients_are_refused(stack: Stack, name: str) -> None:
    """Roles have a dot, which a client name cannot have; nothing is written for a refused name."""
    before = stack.secrets.registries[1].read_bytes()
    code, error, advice = refusal(stack.layout.root, "add", name)
    assert (code, error) == (3, "refused")
    assert "use up to 32 of a-z" in advice
    assert stack.secrets.registries[1].read_bytes() == before


def test_names_are_not_given_out_twice(stack: Stack, alice: Profile) -> None:
    """The certificate and the records of the first one stay hers."""
    before = stack.secrets.registries[1].read_bytes()
    code, error, advice = refusal(stack.layout.root, "add", alice.name)
    assert (code, error) == (3, "refused")
    assert "choose another name" in advice
    assert stack.secrets.registries[1].read_bytes() == before


def test_a_user_of_the_broker_is_not_taken_over(stack: Stack) -> None:
    """A user that is in no registry, a monitoring tool's perhaps, keeps its permissions."""
    name = fresh()
    stack.rabbitmqctl("add_user", name, "unused")
    try:
        code, error, advice = refusal(stack.layout.root, "add", name)
        assert (code, error) == (3, "refused")
        assert "the broker has a user" in advice
    finally:
        stack.rabbitmqctl("delete_user", name)


def test_files_that_are_there_are_not_overwritten(stack: Stack, tmp_path: Path) -> None:
    """Neither a profile nor another vault's CA."""
    for existing in ("profile.toml", "ca.pem"):
        folder = tmp_path / existing.split(".")[0]
        folder.mkdir()
        (folder / existing).write_text("precious")
        code, error, advice = refusal(stack.layout.root, "add", fresh(), "--profile-out", folder / "profile.toml")
        assert (code, error) == (3, "refused")
        assert existing in advice
        assert [path.read_text() for path in folder.iterdir()] == ["precious"]


def test_a_vault_that_is_down_or_absent_enrols_nobody(tmp_path: Path) -> None:
    """Exit 4 and how to start it; what is enrolled can still be listed."""
    code, error, advice = refusal(tmp_path / "none", "add", "alice")
    assert (code, error) == (4, "down")
    assert "./dev up" in advice
    assert not (tmp_path / "none").exists()
    told = provision(tmp_path / "vault")
    code, error, advice = refusal(tmp_path / "vault", "add", "alice")
    assert (code, error) == (4, "down")
    assert "./dev up" in advice
    assert enrolment.registry_of(told).clients == []
    done = run(tmp_path / "vault", "list")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("arguments", [["add"], ["remove", "alice"], ["add", "alice", "--nonsense"]])
def test_a_bad_command_line_is_a_usage_error(tmp_path: Path, arguments: list[str]) -> None:
    """Exit 2, told as JSON if that was asked for."""
    code, error, advice = refusal(tmp_path, *arguments)
    assert (code, error) == (2, "usage")
    assert "--help" in advice


def test_enrolments_at_once_lose_nobody(tmp_path: Path) -> None:
    """Eight at a time, each name twice: every name is in both registries once, and one of each pair is refused."""
    told = provision(tmp_path / "vault")
    names = [f"client{number}" for number in range(8)]

    def enrol(name: str) -> bool:
        try:
            enrolment.enrol(told, name, url="amqps://localhost:5671/edge", operator=False)
        except EnrolmentError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(enrol, names * 2))
    assert sum(done) == len(names)
    assert sorted(client.name for client in enrolment.registry_of(told).clients) == names
    assert told.registries[0].read_bytes() == told.registries[1].read_bytes()
