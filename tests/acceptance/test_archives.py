"""Whole archives by command: ingested, killed and resumed, verified, restored; every file accounted for."""

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from infra.local.stack import Stack
from tests.command import SECONDS, TRIVAULT, complaint, environment, result, run, start
from tests.faults import pieces
from trivault import Profile

KIB = 1024
MIB = 1024 * KIB


@pytest.fixture
def mine(stack: Stack, newcomer: Profile) -> Path:
    """The profile of a client that has no records yet."""
    return stack.layout.root / "clients" / newcomer.name / "profile.toml"


def fill(directory: Path, sizes: dict[str, int]) -> dict[str, bytes]:
    """Write random files; what is in them."""
    contents = {name: random.randbytes(size) for name, size in sizes.items()}  # noqa: S311 - test data
    for name, content in contents.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return contents


def found(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def entries(manifest: Path, *, torn: bool = False) -> list[dict[str, Any]]:
    """The manifest's lines after the first; a kill may have cut the last one short."""
    lines = manifest.read_bytes().splitlines(keepends=True)
    assert torn or lines[-1].endswith(b"\n")
    return [json.loads(line) for line in lines[1:] if line.endswith(b"\n")]


def records(stack: Stack, client: Profile) -> int:
    """How many live records a client has."""
    query = f"SELECT count(*) FROM map WHERE owner = '\\x{client.client_id}' AND state = 'live'"  # noqa: S608 - our own id
    return int(stack.psql("mapstore", query))


def test_an_archive_comes_back_under_its_names(mine: Path, stack: Stack, newcomer: Profile, tmp_path: Path) -> None:
    """Empty, small and large files, in directories and with odd names; the manifest says what they are."""
    sizes = {"a": 0, "b/c.txt": 10, "b/d/large": 3 * MIB, "b/ü \n1": 500, "z": MIB} | {
        f"many/{n:03}": n for n in range(400)
    }
    contents = fill(tmp_path / "in", sizes)
    manifest = tmp_path / "in" / "manifest"  # among the files: it is not one of them
    told = result("ingest", tmp_path / "in", "--manifest", manifest, profile=mine)
    assert (told["stored"], told["failed"], told["bytes"]) == (len(sizes), 0, sum(sizes.values()))
    assert manifest.stat().st_mode & 0o777 == 0o600
    assert records(stack, newcomer) == len(sizes)
    stored = {entry["name"]: entry for entry in entries(manifest) if entry["state"] == "stored"}
    assert {name: entry["sha256"] for name, entry in stored.items()} == {
        name: hashlib.sha256(content).hexdigest() for name, content in contents.items()
    }
    assert result("verify", manifest, profile=mine)["verified"] == len(sizes)
    assert result("export", manifest, tmp_path / "out", profile=mine)["restored"] == len(sizes)
    assert found(tmp_path / "out") == contents
    again = result("export", manifest, tmp_path / "out", profile=mine)
    assert (again["restored"], again["failed"]) == (len(sizes), 0)


def test_what_cannot_be_kept_is_named_with_its_code_and_the_rest_is_kept(mine: Path, tmp_path: Path) -> None:
    """A file too large, one of no bytes, one that vanished, a directory, one that is no file."""
    fill(tmp_path / "in", {"empty": 0, "good": 100})
    with (tmp_path / "in" / "large").open("wb") as file:
        file.truncate(52_428_801)
    os.mkfifo(tmp_path / "in" / "pipe")
    (tmp_path / "in" / "gone").symlink_to("nowhere")
    (tmp_path / "in" / "loop").symlink_to(".")
    manifest = tmp_path / "manifest"
    done = run("ingest", tmp_path / "in", "--manifest", manifest, "--json", profile=mine)
    told = {each["name"]: (each["error"], each["reason"]) for each in map(json.loads, done.stderr.splitlines())}
    expected = {
        "large": ("blob_too_large", ""),
        "pipe": ("invalid_request", "not_a_file"),
        "gone": ("invalid_request", "vanished"),
        "loop": ("invalid_request", "directory"),
    }
    assert told == expected
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["stored"], summary["failed"]) == (3, 2, 4)
    noted = {
        entry["name"]: (entry["code"], entry.get("reason", ""))
        for entry in entries(manifest)
        if entry["state"] == "failed"
    }
    assert noted == expected
    (tmp_path / "in" / "gone").unlink()
    (tmp_path / "in" / "gone").write_bytes(b"here")
    again = json.loads(
        run("ingest", tmp_path / "in", "--manifest", manifest, "--resume", "--json", profile=mine).stdout
    )
    assert (again["stored"], again["skipped"], again["failed"]) == (1, 2, 3)


def test_a_file_that_changes_while_it_is_read_is_not_kept_as_something_else(mine: Path, tmp_path: Path) -> None:
    """Whatever is stored hashes to what the manifest says; what kept changing is told, or stored as it once was."""
    fill(tmp_path / "in", {"large": 30 * MIB, "other": 10})
    path, manifest = tmp_path / "in" / "large", tmp_path / "manifest"
    command = start("ingest", tmp_path / "in", "--manifest", manifest, "--json", profile=mine)
    number = 0
    while command.poll() is None:
        number += 1
        with path.open("r+b") as file:
            file.write(number.to_bytes(8, "big"))
        time.sleep(0.001)  # as a writer would: the test needs no particular moment
    _, errors = command.communicate()
    (told,) = [json.loads(line) for line in errors.splitlines()]
    assert (command.returncode, told["name"], told["reason"]) == (3, "large", "content_changed")
    assert result("verify", manifest, profile=mine)["verified"] == 1


@pytest.mark.parametrize("kills", [10])
def test_killed_ten_times_it_resumes_without_keeping_anything_twice(
    mine: Path, stack: Stack, newcomer: Profile, tmp_path: Path, kills: int
) -> None:
    """SIGKILL at random moments, then --resume: as many records as files, each the right one, and no piece besides."""
    orphans, lacking = asyncio.run(pieces.orphans(stack)), asyncio.run(pieces.missing(stack))  # of other tests' doing
    chance = random.Random(int(time.time()))  # noqa: S311 - moments
    sizes = {f"{n % 7}/{n:05}": chance.choice([0, 10, KIB, 20 * KIB]) for n in range(4_000)}
    contents = fill(tmp_path / "in", sizes | {f"large/{n}": 2 * MIB + n for n in range(6)})
    manifest = tmp_path / "manifest"
    ends, open_ends = [], 0
    for _ in range(kills):
        resume = ["--resume"] if manifest.exists() else []
        command = start("ingest", tmp_path / "in", "--manifest", manifest, "--jobs", 2, *resume, profile=mine)
        time.sleep(chance.uniform(0.4, 1.1))  # somewhere between starting and being done
        command.send_signal(signal.SIGKILL)
        command.communicate(timeout=SECONDS)
        ends.append(command.returncode)
        last = {entry["name"]: entry["state"] for entry in entries(manifest, torn=True)} if manifest.exists() else {}
        open_ends += "sent" in last.values()
    assert open_ends
    assert ends.count(-signal.SIGKILL) >= kills // 2
    told = result("ingest", tmp_path / "in", "--manifest", manifest, "--resume", profile=mine)
    assert (told["stored"] + told["skipped"], told["failed"]) == (len(contents), 0)
    assert records(stack, newcomer) == len(contents)
    assert asyncio.run(pieces.orphans(stack)) <= orphans  # the Cryptor was never killed: there is nothing to sweep
    assert asyncio.run(pieces.missing(stack)) <= lacking
    assert result("export", manifest, tmp_path / "out", profile=mine)["failed"] == 0
    assert found(tmp_path / "out") == contents


def test_the_jobs_of_an_archive_can_be_asked_for_later(mine: Path, tmp_path: Path) -> None:
    """By another process that knows only the manifest: many jobs at once, each item's outcome, and how many failed."""
    fill(tmp_path / "in", {f"{n:04}": 10 for n in range(2_300)} | {"large": 2 * MIB})
    manifest = tmp_path / "manifest"
    result("ingest", tmp_path / "in", "--manifest", manifest, profile=mine)
    jobs = list(dict.fromkeys(entry["job_id"] for entry in entries(manifest) if entry["state"] == "sent"))
    assert len(jobs) == 3
    done = run("status", *jobs, "--json", profile=mine)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["job_id"] for each in told] == jobs
    assert sorted(each["done"] for each in told) == [1, 300, 2_000]
    uuids = {entry["external_uuid"] for entry in entries(manifest) if entry["state"] == "stored"}
    assert {each["external_uuid"] for job in told for each in job["outcomes"] or [job]} == uuids
    watched = run("watch", *jobs, profile=mine)
    assert (done.returncode, watched.returncode) == (0, 0)
    assert b"2,000/2,000" in watched.stdout


def test_lines_are_records(mine: Path, tmp_path: Path) -> None:
    """Of files and of stdin; line feeds are not part of them, and a last line needs none."""
    (tmp_path / "a.jsonl").write_bytes(b'{"n": 1}\n\n{"n": 3}')
    (tmp_path / "b.csv").write_bytes(b"x,y\n1,2\n")
    told = result(
        "ingest", "--lines", tmp_path / "a.jsonl", tmp_path / "b.csv", "--manifest", tmp_path / "m", profile=mine
    )
    assert told["stored"] == 5
    result("export", tmp_path / "m", tmp_path / "out", profile=mine)
    assert found(tmp_path / "out") == {
        "a.jsonl/000000001": b'{"n": 1}',
        "a.jsonl/000000002": b"",
        "a.jsonl/000000003": b'{"n": 3}',
        "b.csv/000000001": b"x,y",
        "b.csv/000000002": b"1,2",
    }
    stdin = result("ingest", "-", "--lines", "--manifest", tmp_path / "n", profile=mine, stdin=b"one\ntwo\n")
    assert stdin["stored"] == 2


def test_a_list_on_stdin_names_files(mine: Path, tmp_path: Path) -> None:
    """Absolute names lose their root; one that comes twice is one record."""
    contents = fill(tmp_path / "in", {"a": 10, "b/c": 20})
    listed = "".join(f"{tmp_path}/in/{name}\n" for name in ("a", "b/c", "b/../a"))
    told = result("ingest", "-", "--manifest", tmp_path / "m", profile=mine, stdin=listed.encode())
    assert told["stored"] == 2
    result("export", tmp_path / "m", tmp_path / "out", profile=mine)
    inside = f"{tmp_path}/in".removeprefix("/")
    assert found(tmp_path / "out") == {f"{inside}/{name}": content for name, content in contents.items()}


def test_a_manifest_is_not_overwritten_shared_or_made_up(mine: Path, tmp_path: Path) -> None:
    """A second ingest into it, --resume without one, a file that is none: refused, nothing sent."""
    fill(tmp_path / "in", {"a": 10})
    manifest = tmp_path / "manifest"
    ingest = ["ingest", tmp_path / "in", "--manifest", manifest]
    assert complaint(*ingest, "--resume", profile=mine)[1]["error"] == "manifest"
    result(*ingest, profile=mine)
    assert complaint(*ingest, profile=mine)[1]["error"] == "manifest"
    manifest.write_bytes(b"something else\n")
    code, told = complaint(*ingest, "--resume", profile=mine)
    assert (code, told["error"]) == (2, "manifest")
    assert "line 1" in told["advice"]
    assert complaint("ingest", tmp_path / "in", tmp_path / "in", "--manifest", tmp_path / "n", profile=mine)[0] == 2
    assert complaint("ingest", "-", tmp_path / "in", "--manifest", tmp_path / "n", profile=mine)[0] == 2
    assert not (tmp_path / "n").exists()


def test_two_ingests_do_not_share_a_manifest(mine: Path, tmp_path: Path) -> None:
    """The second one is told to wait."""
    manifest = tmp_path / "manifest"
    argv = ["ingest", "-", "--lines", "--manifest", manifest]
    first = subprocess.Popen(  # noqa: S603 - fixed argv
        start_argv(argv),
        env=environment(mine),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        until_there(manifest)
        code, told = complaint(*argv, "--resume", profile=mine)
        assert (code, told["error"]) == (2, "manifest")
        assert "in use" in told["advice"]
    finally:
        output, errors = first.communicate(b"one\n", timeout=SECONDS)
    assert (first.returncode, errors) == (0, b""), output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_that_waits_for_stdin_can_be_stopped(mine: Path, tmp_path: Path, number: signal.Signals) -> None:
    """At once, and it says how to go on."""
    manifest = tmp_path / "manifest"
    argv = start_argv(["ingest", "-", "--lines", "--manifest", manifest])
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, env=environment(mine), stdin=pipe, stdout=pipe, stderr=pipe) as process:  # noqa: S603 - fixed argv
        until_there(manifest)
        process.send_signal(number)
        assert process.wait(SECONDS) == 128 + number
        assert process.stderr is not None
        assert b"--resume" in process.stderr.read()


def start_argv(arguments: list[Any]) -> list[str]:
    """The command line of `trivault`."""
    return [str(TRIVAULT), *map(str, arguments)]


def until_there(manifest: Path) -> None:
    """Wait for a manifest with its first line."""
    deadline = time.monotonic() + SECONDS
    while not manifest.exists() or not manifest.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_not_what_the_manifest_says_is_neither_verified_nor_written(mine: Path, tmp_path: Path) -> None:
    """Another hash, an unknown uuid, a name that leads out, a file that is there already."""
    fill(tmp_path / "in", dict.fromkeys(("good", "hash", "uuid", "name", "there"), 100))
    manifest = tmp_path / "manifest"
    result("ingest", tmp_path / "in", "--manifest", manifest, profile=mine)
    lines = manifest.read_text().splitlines()
    changes = {"hash": ("sha256", "0" * 64), "uuid": ("external_uuid", "0b7a4c2e-8f51-4f0e-9d77-3a3a3a3a3a3a")}
    changes |= {"name": ("name", "../name")}
    changed = []
    for line in lines[1:]:
        told = json.loads(line)
        if told["state"] == "stored" and told["name"] in changes:
            field, value = changes[told["name"]]
            told[field] = value
        changed.append(json.dumps(told))
    manifest.write_text("\n".join([lines[0], *changed]) + "\n")
    fill(tmp_path / "out", {"there": 5})
    before = found(tmp_path / "out")
    done = run("export", manifest, tmp_path / "out", "--json", profile=mine)
    told = {each["name"]: (each["error"], each["reason"]) for each in map(json.loads, done.stderr.splitlines())}
    assert told == {
        "hash": ("integrity_failed", "manifest"),
        "uuid": ("not_found", ""),
        "../name": ("invalid_request", "unsafe_name"),
        "there": ("invalid_request", "exists"),
    }
    assert done.returncode != 0
    assert found(tmp_path / "out") == before | {"good": (tmp_path / "in" / "good").read_bytes()}
    assert not (tmp_path / "name").exists()
    done = run("verify", manifest, "--json", profile=mine)
    assert {json.loads(line)["name"] for line in done.stderr.splitlines()} == {"hash", "uuid"}
