"""The client of `examples/node`, which was written from docs/protocol.md and docs/format.md alone, and a real vault.

It is the proof that the two pages suffice: records go both ways between it and the SDK, and what it spoils is refused
as the pages say. What it makes of altered answers is in its own tests, which run here too.
"""

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from contracts.limits import MAX_BLOB
from docs.generate.__main__ import FOLDER
from infra.local.stack import Stack
from tests.command import environment
from tests.fix_node import Node
from tests.sizes import SIZES
from trivault import Vault

SECONDS: Final = 120  # for any one process
Script = Callable[..., Any]
Command = Callable[..., subprocess.CompletedProcess[str]]


def _run(
    node: Node, *arguments: object, stdin: str = "", profile: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - ours
        [str(node.executable), *map(str, arguments)],
        cwd=node.folder,
        env=environment(profile),
        input=stdin,
        timeout=SECONDS,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def script(node: Node, alices: Path) -> Script:
    """Runs one of the client's test scripts as Alice: JSON in, JSON out."""

    def run(name: str, **told: object) -> Any:
        done = _run(node, f"test/{name}", stdin=json.dumps({"profile": str(alices), **told}))
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="module")
def command(node: Node, alices: Path) -> Command:
    """Runs the client's command as Alice."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return _run(node, "trivault-cli.mjs", *arguments, profile=alices)

    return run


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _jobs(stack: Stack) -> int:
    return int(stack.psql("gateway", "SELECT count(*) FROM jobs"))


def test_the_clients_own_tests_pass(node: Node) -> None:
    """Its formats against the frozen vectors, and what it makes of altered statements, answers and downloads."""
    done = _run(node, "--test", "--test-reporter=tap", "test/*.test.mjs")
    assert done.returncode == 0, done.stdout
    counts = dict(re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE))
    assert int(counts["pass"]) == int(counts["tests"]) > 0


# --- records go both ways ---------------------------------------------------------------------------------------------


async def test_what_node_dumps_is_loaded_by_the_sdk(script: Script, vault: Vault, tmp_path: Path) -> None:
    """At every size where something changes."""
    sources = [tmp_path / str(size) for size in SIZES]
    for source, size in zip(sources, SIZES, strict=True):
        source.write_bytes(os.urandom(size))
    uuids = script("many.mjs", dump=[str(source) for source in sources], load=[])
    assert len(set(uuids)) == len(SIZES)
    for external_uuid, source in zip(uuids, sources, strict=True):
        target = tmp_path / "target"
        await vault.load_to(UUID(external_uuid), target)
        assert _digest(target) == _digest(source), source.name
        target.unlink()


async def test_what_the_sdk_dumps_is_loaded_by_node(script: Script, vault: Vault, tmp_path: Path) -> None:
    """At every size where something changes."""
    digests, loads = {}, []
    for size in SIZES:
        blob, target = os.urandom(size), tmp_path / str(size)
        digests[target] = hashlib.sha256(blob).digest()
        loads.append([str(await vault.dump(blob)), str(target)])
    script("many.mjs", dump=[], load=loads)
    assert {target: _digest(target) for target in digests} == digests
    assert {target.stat().st_size for target in digests} == set(SIZES)


def test_one_byte_too_many_is_refused_before_anything_is_sent(script: Script, stack: Stack, tmp_path: Path) -> None:
    """The ledger never hears of it."""
    source, jobs = tmp_path / "source", _jobs(stack)
    with source.open("wb") as file:
        file.truncate(MAX_BLOB + 1)
    assert script("many.mjs", dump=[str(source)], load=[]) == ["blob_too_large"]
    assert _jobs(stack) == jobs


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_file_is_dumped_asked_for_and_loaded(command: Command, tmp_path: Path) -> None:
    """Another process opens the job's answer once more; the copy is private, and nothing is left beside it."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    job = str(uuid4())
    dumped = command("dump", source, "--job", job)
    assert (dumped.returncode, dumped.stderr) == (0, f"job {job}\n")
    external_uuid = dumped.stdout.strip()
    assert command("status", job).stdout == f"succeeded {external_uuid}\n"
    loaded = command("load", external_uuid, "-o", target)
    assert (loaded.returncode, loaded.stdout, loaded.stderr) == (0, "", "3000000 bytes\n")
    assert _digest(target) == _digest(source)
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(tmp_path.iterdir()) == [source, target]


def test_the_same_job_id_is_the_same_record_or_a_conflict(command: Command, tmp_path: Path) -> None:
    """Dumped again under its job id, a file is the same record; another file is refused."""
    source, other, job = tmp_path / "source", tmp_path / "other", uuid4()
    source.write_bytes(b"once")
    other.write_bytes(b"something else")
    first = command("dump", source, "--job", job).stdout
    assert UUID(first.strip()).version == 4
    assert command("dump", source, "--job", job).stdout == first
    refused = command("dump", other, "--job", job)
    assert (refused.returncode, refused.stdout) == (3, "")
    assert "\nconflict: " in refused.stderr


def test_the_command_ends_with_the_exit_code_of_the_sdks(
    command: Command, node: Node, alices: Path, tmp_path: Path
) -> None:
    """By the table of `trivault --help`. A load that fails leaves no file; a broker of another CA is not believed."""
    unknown, target = uuid4(), tmp_path / "target"
    missing = command("load", unknown, "-o", target)
    assert (missing.returncode, missing.stdout) == (5, "")
    assert missing.stderr.startswith("not_found: ")
    assert list(tmp_path.iterdir()) == []
    assert command("status", unknown).returncode == 5
    assert command("dump", tmp_path / "absent").returncode == 2
    assert command("load", "no-uuid", "-o", target).returncode == 2
    assert command("frobnicate", "it").returncode == 2
    folder = tmp_path / "profile"
    folder.mkdir()
    for file in alices.parent.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    exposed = folder / "profile.toml"
    exposed.chmod(0o644)
    assert _run(node, "trivault-cli.mjs", "status", unknown, profile=exposed).returncode == 2
    exposed.chmod(0o600)
    authority = folder / "ca.pem"
    believed = authority.read_bytes()
    authority.write_bytes((folder / "alice.pem").read_bytes())
    stranger = _run(node, "trivault-cli.mjs", "status", unknown, profile=exposed)
    assert (stranger.returncode, stranger.stderr[:14]) == (4, "no connection:")
    authority.write_bytes(believed)
    exposed.write_text(re.sub(r"localhost:\d+", "localhost:1", exposed.read_text()))
    assert _run(node, "trivault-cli.mjs", "status", unknown, profile=exposed).returncode == 4


# --- a wrong byte anywhere --------------------------------------------------------------------------------------------

End = tuple[str, str, bool]  # code, reason, sealed
LOST: Final = ("upload_lost", "", True)
UNFIT: Final = ("invalid_request", "malformed_envelope", False)
FORGED: Final = ("unauthenticated", "wrong_signature", False)


def _invalid(reason: str) -> End:
    return "invalid_request", reason, False


SPOILT: Final[dict[str, End]] = {
    "the envelope is empty": UNFIT,
    "the envelope is cut in the head": UNFIT,
    "the envelope is cut in the seal": UNFIT,
    "the envelope is cut in the signature": UNFIT,
    "a length runs past the end": UNFIT,
    "the seal is altered and signed": _invalid("wrong_seal"),
    "the seal is cut and signed": _invalid("wrong_seal"),
    "the head is no JSON and signed": _invalid("malformed"),
    "sealed to another key": _invalid("wrong_seal"),
    "an unknown version": _invalid("unknown_version"),
    "an unknown suite": _invalid("unknown_suite"),
    "another vault": _invalid("wrong_vault"),
    "another client": ("unauthenticated", "wrong_client", False),
    "an unknown key": _invalid("unknown_key"),
    "expired": ("expired", "", False),
    "living too long": _invalid("expiry_too_far"),
    "from the future": _invalid("issued_in_the_future"),
    "two items": _invalid("item_count"),
    "one byte too large": _invalid("blob_too_large"),
    "another size": _invalid("payload_size"),
    "an unknown op": _invalid("malformed_op"),
    "an unknown field": _invalid("unknown_field"),
    "a number as text": _invalid("malformed_size"),
    "a missing field": _invalid("malformed_request_tag"),
    "a sweep by one who is no operator": ("unauthenticated", "operators_only", False),
    "an unknown field under the seal": _invalid("unknown_field"),
    "a uuid that a dump has not": _invalid("item_count"),
    "the payload is cut": _invalid("payload_size"),
    "the payload is longer": _invalid("payload_size"),
    "another content under the same job id": ("conflict", "", False),
    "a piece is altered": LOST,
    "the last piece is altered": LOST,
    "the last piece is cut": LOST,
    "a piece is missing": LOST,
    "a piece is too long": LOST,
    "the upload stops": LOST,
    "no such record": ("not_found", "", True),
    "a record of another client": ("not_found", "", True),
    "a uuid that is none": _invalid("malformed_external_uuids"),
    "an unknown type": _invalid("unknown_type"),
    "no meta": _invalid("missing_meta"),
    "an unreadable meta": _invalid("malformed"),
    "an unknown field in meta": _invalid("unknown_field"),
    "no user_id": ("unauthenticated", "missing_user_id", False),
}


@pytest.fixture(scope="module")
async def spoilt(script: Script, bobs: Path) -> dict[str, Any]:
    """How requests end that the client spoils."""
    async with Vault.open(bobs) as bob:
        foreign = await bob.dump(b"Bob's")
    told: dict[str, Any] = script("spoilt.mjs", foreign=str(foreign))
    return told


def test_a_request_that_is_not_spoilt_is_kept(spoilt: dict[str, Any]) -> None:
    """The control: whatever is refused below is refused for the one thing that is wrong with it."""
    assert UUID(spoilt["cases"]["nothing"]).version == 4
    assert UUID(spoilt["cases"]["nothing, in pieces"]).version == 4


@pytest.mark.parametrize("name", SPOILT)
def test_what_is_spoilt_is_refused_with_its_code_and_reason(spoilt: dict[str, Any], name: str) -> None:
    """And under seal if docs/protocol.md §10 says so."""
    assert tuple(spoilt["cases"][name]) == SPOILT[name]


def test_every_spoilt_request_was_looked_at(spoilt: dict[str, Any]) -> None:
    """The broker refuses a foreign `user_id` itself: it closes the channel."""
    assert set(spoilt["cases"]) - set(SPOILT) == {"nothing", "nothing, in pieces", "the user_id of another client"}
    assert spoilt["cases"]["the user_id of another client"] == "Lost"


def test_a_flipped_byte_is_refused_wherever_it_is(spoilt: dict[str, Any]) -> None:
    """Each byte of a request once.

    The gateway parses the head before anybody verifies its signature, so a byte there may be refused for what it says.
    """
    flips = {part: {tuple(end) for end in ends} for part, ends in spoilt["flips"].items()}
    head = flips.pop("head")
    assert flips == {"seal": {UNFIT, FORGED}, "signature": {UNFIT, FORGED}, "payload": {LOST}}
    assert {UNFIT, FORGED, _invalid("malformed"), _invalid("unknown_version")} <= head
    assert {code for code, _, _ in head} == {"invalid_request", "unauthenticated", "expired"}
    assert not any(sealed for _, _, sealed in head)


def test_every_refusal_is_documented(spoilt: dict[str, Any]) -> None:
    """Codes and reasons stand in docs/protocol.md §10; what comes sealed is said to."""
    _, _, section = (FOLDER / "protocol.md").read_text().partition("\n## 10. Failure codes")
    section = section.partition("\n## ")[0]
    words = set(re.findall(r"`([a-z_]+)`", section))
    comes = dict(re.findall(r"^\| `([a-z_]+)` \| ([^|]+) \|", section, re.MULTILINE))
    ends = [tuple(spoilt["cases"][name]) for name in SPOILT] + [
        tuple(end) for all_ in spoilt["flips"].values() for end in all_
    ]
    for code, reason, sealed in ends:
        assert ("sealed" if sealed else "refusal") in comes[code], code
        assert reason in words | {""} or re.fullmatch(r"malformed_[a-z_]+", reason), reason
