"""The `trivault` command, as people and scripts run it: in a process of its own, against the whole vault."""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from infra.local.stack import Stack
from tests.command import SECONDS, TRIVAULT, complaint, environment, result, run, start
from trivault import Profile

MAX = 52_428_800


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Poll until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def jobs_of(stack: Stack, client: Profile) -> int:
    """How many jobs the ledger has of a client."""
    return int(stack.psql("gateway", f"SELECT count(*) FROM jobs WHERE client_id = '\\x{client.client_id}'"))  # noqa: S608 - hexadecimal


# --- dump and load --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1_000, 300_000])
def test_stdin_and_stdout_carry_a_record(alices: Path, size: int) -> None:
    """`dump -` reads a pipe; `load UUID` writes one, and nothing else to it."""
    blob = os.urandom(size)
    external_uuid = result("dump", "-", profile=alices, stdin=blob)["external_uuid"]
    for output in ([], ["-o", "-"]):
        loaded = run("load", external_uuid, *output, profile=alices)
        assert (loaded.returncode, loaded.stdout, loaded.stderr) == (0, blob, b"")


def test_a_larger_blob_is_refused_and_nothing_is_sent(stack: Stack, newcomer: Profile, tmp_path: Path) -> None:
    """52,428,801 bytes: from a file or from a pipe, the ledger never hears of it."""
    profile = stack.layout.root / "clients" / newcomer.name / "profile.toml"
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(MAX + 1)
    for arguments, stdin in (([source], b""), (["-"], bytes(MAX + 1)), (["/dev/zero"], b"")):
        for command in ("dump", "submit"):
            code, told = complaint(command, *arguments, profile=profile, stdin=stdin)
            assert (code, told["error"]) == (3, "blob_too_large")
            assert "job_id" not in told
    assert jobs_of(stack, newcomer) == 0
    assert run("dump", "-", profile=profile, stdin=b"x").returncode == 0
    assert jobs_of(stack, newcomer) == 1  # what was counted is what is counted


def test_the_same_job_id_is_the_same_record(alices: Path) -> None:
    """`--job-id` makes a dump repeatable; other content under it is a conflict."""
    job = uuid4()
    told = [result("dump", "-", "--job-id", job, profile=alices, stdin=b"once") for _ in range(2)]
    assert told[0] == told[1]
    assert told[0]["job_id"] == str(job)
    code, refused = complaint("dump", "-", "--job-id", job, profile=alices, stdin=b"twice")
    assert (code, refused["error"], refused["job_id"]) == (3, "conflict", str(job))


# --- whose and which ------------------------------------------------------------------------------------------------


def test_unknown_and_foreign_records_are_not_found(alices: Path, bobs: Path, tmp_path: Path) -> None:
    """Somebody else's uuid looks exactly like one that does not exist, and leaves no file."""
    external_uuid = result("dump", "-", profile=alices, stdin=b"hers")["external_uuid"]
    foreign = complaint("load", external_uuid, "-o", tmp_path / "target", profile=bobs)
    unknown = complaint("load", uuid4(), "-o", tmp_path / "target", profile=bobs)
    assert foreign == unknown
    assert (foreign[0], foreign[1]["error"]) == (5, "not_found")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["load", "7f3d"],
        ["status", "7f3d"],
        ["watch"],
        ["dump"],
        ["dump", "-", "--job-id", "7"],
        ["dump", "-", "--nonsense"],
        ["nonsense"],
        ["load", str(UUID(int=7))],  # --json and the record on one stdout
    ],
)
def test_a_bad_command_line_is_a_usage_error(alices: Path, arguments: list[str]) -> None:
    """Exit 2, told as JSON if that was asked for."""
    code, told = complaint(*arguments, profile=alices)
    assert (code, told["error"]) == (2, "usage")


def test_errors_for_people_say_what_to_do(alices: Path) -> None:
    """One line on stderr: code and advice, and no traceback."""
    done = run("load", uuid4(), profile=alices)
    assert (done.returncode, done.stdout) == (5, b"")
    assert done.stderr.decode().splitlines() == [
        "trivault: not_found: no such record belongs to this client; check the uuid"
    ]


# --- profiles and files ---------------------------------------------------------------------------------------------


def without(key: str) -> Callable[[str], str]:
    """Remove one line of a profile."""
    return lambda text: "\n".join(line for line in text.splitlines() if not line.startswith(key))


@pytest.mark.parametrize(
    ("mode", "change", "says"),
    [
        (0o644, str, "chmod 600"),
        (0o600, lambda text: text + "[", "not TOML"),
        (0o600, lambda text: text + "more = 1\n", "toml: more"),
        (0o600, without("client_secret"), "toml: client_secret"),
        (0o600, lambda text: without("ca_file")(text) + "\nca_file = 7\n", "toml: ca_file"),
        (0o600, lambda text: text.replace("amqps://", "amqp://"), "toml: url"),
        (0o600, lambda text: text.replace('"ca.pem"', '"gone.pem"'), "toml: ca_file: cannot be read"),
    ],
    ids=["mode", "syntax", "unknown key", "missing key", "type", "plaintext url", "certificate gone"],
)
def test_a_bad_profile_is_refused_without_its_secrets(
    alices: Path, tmp_path: Path, mode: int, change: Callable[[str], str], says: str
) -> None:
    """Exit 2; the advice names what is wrong, never a secret."""
    folder = tmp_path / "profile"
    shutil.copytree(alices.parent, folder)
    profile = folder / "profile.toml"
    profile.write_text(change(profile.read_text()))
    profile.chmod(mode)
    code, told = complaint("dump", "-", profile=profile, stdin=b"x")
    assert (code, told["error"]) == (2, "profile")
    assert says in told["advice"]
    secrets = Profile.read(alices)
    assert not any(secret in told["advice"] for secret in (secrets.signing_key, secrets.client_secret))


def test_a_missing_profile_is_refused(tmp_path: Path) -> None:
    """Exit 2, whether none is named or the named one is not there."""
    assert complaint("dump", "-", profile=None)[1]["error"] == "usage"
    code, told = complaint("dump", "-", "--profile", tmp_path / "gone", profile=None)
    assert (code, told["error"]) == (2, "profile")
    assert "trivault-admin client add" in told["advice"]


def test_local_files_that_cannot_be_used_are_named(alices: Path, tmp_path: Path) -> None:
    """Missing or a folder to read; a missing folder or a device to write: exit 2, and a device is left alone."""
    for source, reason in ((tmp_path / "gone", "ENOENT"), (tmp_path, "EISDIR")):
        code, told = complaint("dump", source, profile=alices)
        assert (code, told["error"], told["reason"]) == (2, "file", reason)
        assert str(source) in told["advice"]
    code, told = complaint("load", uuid4(), "-o", tmp_path / "gone" / "target", profile=alices)
    assert (code, told["error"]) == (2, "file")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code, told = complaint("load", uuid4(), "-o", fifo, profile=alices)
    assert (code, told["error"]) == (2, "usage")
    assert fifo.is_fifo()


def test_a_vault_that_is_away_is_an_error_to_try_again(alices: Path, tmp_path: Path) -> None:
    """Nobody listens: exit 4, soon, and the advice is about the network."""
    folder = tmp_path / "profile"
    shutil.copytree(alices.parent, folder)
    profile = folder / "profile.toml"
    url = f'url = "{Profile.read(alices).url}"'
    profile.write_text(profile.read_text().replace(url, 'url = "amqps://localhost:1/edge"'))
    code, told = complaint("dump", "-", profile=profile, stdin=b"x")
    assert (code, told["reason"]) == (4, "broker_unreachable")
    assert "cannot be reached" in told["advice"]


# --- jobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_submitted_job_is_followed_by_other_processes(alices: Path, tmp_path: Path, size: int) -> None:
    """`submit` ends; `watch` and `status`, which share nothing with it but the profile, tell its uuid."""
    blob = os.urandom(size)
    job = result("submit", "-", profile=alices, stdin=blob)["job_id"]
    watched = run("watch", job, "--json", profile=alices)
    assert watched.returncode == 0
    last = json.loads(watched.stdout.splitlines()[-1])
    assert (last["job_id"], last["state"], last["sealed"]) == (job, "succeeded", True)
    assert result("status", job, profile=alices) == last
    target = tmp_path / "target"
    assert run("load", last["external_uuid"], "-o", target, profile=alices).returncode == 0
    assert target.read_bytes() == blob


def test_several_jobs_are_told_one_per_line(alices: Path, bobs: Path) -> None:
    """In the order asked for; a job of somebody else is unknown, and that is the exit code."""
    mine = [run("submit", "-", profile=alices, stdin=blob).stdout.decode().strip() for blob in (b"1", b"2")]
    plain = run("watch", *mine, profile=alices)
    assert plain.returncode == 0
    assert sorted({line.split()[0] for line in plain.stdout.decode().splitlines()}) == sorted(mine)
    foreign = result("submit", "-", profile=bobs, stdin=b"his")["job_id"]
    told = run("status", mine[0], foreign, mine[1], "--json", profile=alices)
    assert told.returncode == 5
    states = [json.loads(line) for line in told.stdout.splitlines()]
    assert [each["job_id"] for each in states] == [mine[0], foreign, mine[1]]
    assert [each["state"] for each in states] == ["succeeded", "unknown", "succeeded"]
    assert run("watch", mine[0], foreign, profile=alices).returncode == 5


# --- interruptions --------------------------------------------------------------------------------------------------


def test_jobs_outlive_the_commands_that_made_them(stack: Stack, newcomer: Profile) -> None:
    """Ctrl-C and SIGTERM name the job; the vault goes on to make its record, and a watcher sees it happen."""
    profile = stack.layout.root / "clients" / newcomer.name / "profile.toml"
    stack.stop("cryptor")
    try:
        dumping = [start("dump", __file__, "--json", profile=profile) for _ in range(2)]
        until(lambda: jobs_of(stack, newcomer) == 2)
        told = []
        ends = ((signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"))
        for process, (number, code, name) in zip(dumping, ends, strict=True):
            process.send_signal(number)
            output, errors = process.communicate(timeout=SECONDS)
            told.append(json.loads(errors))
            assert (process.returncode, output, told[-1]["error"]) == (code, b"", name)
        watching = start("watch", *(each["job_id"] for each in told), "--json", profile=profile)
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["state"] in {"accepted", "running"}
    finally:
        stack.start("cryptor")
    rest, errors = watching.communicate(timeout=SECONDS)
    assert (watching.returncode, errors) == (0, b"")
    assert json.loads(rest.splitlines()[-1])["state"] == "succeeded"
    external_uuid = result("status", told[0]["job_id"], profile=profile)["external_uuid"]
    assert run("load", external_uuid, profile=profile).stdout == Path(__file__).read_bytes()


def test_an_interrupted_load_leaves_no_partial_file(alices: Path, tmp_path: Path) -> None:
    """Killed while it writes: the target is not there. Asked to stop: neither is its temporary file."""
    external_uuid = result("dump", "-", profile=alices, stdin=bytes(MAX))["external_uuid"]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        loading = start("load", external_uuid, "-o", tmp_path / "target", profile=alices)
        until(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
        loading.send_signal(number)
        loading.communicate(timeout=SECONDS)
        assert loading.returncode in {128 + number, -number}
        left = [path.name for path in tmp_path.iterdir()]
        assert "target" not in left
        assert left == [] or number is signal.SIGKILL
    target = tmp_path / "target"
    assert run("load", external_uuid, "-o", target, profile=alices).returncode == 0
    assert target.stat().st_size == MAX


def test_a_reader_that_goes_away_is_no_traceback(alices: Path) -> None:
    """`trivault load UUID | head -c 1`."""
    external_uuid = result("dump", "-", profile=alices, stdin=bytes(3_000_000))["external_uuid"]
    with start("load", external_uuid, profile=alices) as loading:
        assert loading.stdout is not None
        assert loading.stderr is not None
        loading.stdout.close()
        assert loading.stderr.read() == b"trivault: file (EPIPE): Broken pipe\n"
    assert loading.returncode == 2


# --- terminals ------------------------------------------------------------------------------------------------------


def on_a_terminal(*arguments: object, profile: Path) -> tuple[int, str]:
    """Run a command with a terminal for stdout and stderr; exit code and what was drawn."""
    master, slave = pty.openpty()
    argv = [str(TRIVAULT), *map(str, arguments)]
    with subprocess.Popen(argv, env=environment(profile) | {"TERM": "xterm"}, stdout=slave, stderr=slave) as process:  # noqa: S603 - fixed argv
        os.close(slave)
        drawn = b""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    drawn += os.read(master, 65536)
                except OSError:  # the terminal's last user has gone
                    break
        os.close(master)
    return process.returncode, drawn.decode()


def test_a_terminal_sees_progress_and_a_table(alices: Path, tmp_path: Path) -> None:
    """Bars while bytes move, a table while jobs run; a record is not written to a terminal unless told to."""
    source = tmp_path / "source"
    source.write_bytes(bytes(20_000_000))
    code, drawn = on_a_terminal("submit", source, profile=alices)
    assert code == 0
    assert "MB/s" in drawn
    (job,) = re.findall(r"[0-9a-f-]{36}", drawn)
    code, drawn = on_a_terminal("watch", job, profile=alices)
    assert code == 0
    assert "succeeded" in drawn
    code, drawn = on_a_terminal("load", uuid4(), profile=alices)
    assert (code, "name a file (-o FILE)" in drawn) == (2, True)


# --- the command itself ---------------------------------------------------------------------------------------------


def test_help_is_quick_and_documents_exit_codes() -> None:
    """`trivault --help` neither loads AMQP nor TLS, and lists every exit code."""
    script = (
        "import sys; from trivault.cli import run; code = run(['--help'])\n"
        "sys.exit(code or any(name in sys.modules for name in ('aio_pika', 'cryptography', 'pydantic')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - fixed argv
    assert (done.returncode, done.stderr) == (0, "")
    for code in (0, 1, 2, 3, 4, 5, 6, 130, 143):
        assert f"\n    {code:<4} " in done.stdout


@pytest.mark.parametrize("gone", ["typer", "rich"])
def test_without_the_extra_it_says_what_to_install(gone: str) -> None:
    """An installation without `trivault[cli]` answers with the command to type; the SDK needs neither."""
    script = (
        "import sys\n"
        "from importlib import util\n"
        "real = util.find_spec\n"
        f"util.find_spec = lambda name, *rest: None if name == {gone!r} else real(name, *rest)\n"
        "from trivault import Vault\n"
        "assert 'typer' not in sys.modules\n"
        "from trivault.cli import run\n"
        "sys.exit(run(['status']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603 - fixed argv
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"trivault: {gone} not installed; run: pip install 'trivault[cli]'\n"
