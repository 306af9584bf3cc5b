"""A service that is told something wrong ends at once, and says on one screen which option or file to look at.

Real processes against the real stack: no traceback, and never a secret.
"""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import tomli_w

from infra.local.stack import REPOSITORY, Stack
from infra.pki.authority import Authority
from workers.datastore.settings import S3Settings

SCREEN: Final = 24  # lines
Told = dict[str, Any]


@pytest.fixture
def folder(stack: Stack, tmp_path: Path) -> Path:
    """A copy of the KeyStore's files, to spoil."""
    return Path(shutil.copytree(stack.secrets.of("keystore"), tmp_path / "keystore"))


@pytest.fixture
def told(stack: Stack, folder: Path) -> Told:
    """The KeyStore's settings, naming the copy."""
    text = (stack.layout.etc / "keystore.toml").read_text()
    return tomllib.loads(text.replace(str(stack.secrets.of("keystore")), str(folder)))


def start(module: str, told: Told, folder: Path, **environment: str) -> tuple[int, str]:
    """Start a service that is not to come up: its exit code, and all that it says."""
    file = folder / "service.toml"
    file.write_text(tomli_w.dumps(told))
    done = subprocess.run(  # noqa: S603 - fixed argv
        [sys.executable, "-m", module, "--config", str(file)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    assert len(said.splitlines()) <= SCREEN
    for secret in folder.iterdir():
        if secret.suffix in {".key", ".json"}:
            assert not [line for line in secret.read_text().splitlines() if len(line) > 40 and line.strip() in said]
    return done.returncode, said


def failure(said: str) -> tuple[str, str]:
    """Reason and advice of the last line of a log."""
    line = json.loads(said.splitlines()[-1])
    assert line["action"] == "service.failed"
    (advice,) = line["advice"]
    return line["reason"], advice


Spoil = Callable[[Told, Path], object]
SETTINGS: Final[dict[str, tuple[Spoil, str]]] = {
    "wrong type": (lambda told, _: told.update(prefetch="many"), "prefetch: Input should be a valid integer"),
    "unknown key": (lambda told, _: told.update(prefetsch=7), "prefetsch: Extra inputs are not permitted"),
    "missing section": (lambda told, _: told.pop("broker"), "broker: Field required"),
    "missing certificate": (
        lambda _, folder: (folder / "svc.keystore.pem").unlink(),
        "broker.cert_file: cannot be read: No such file or directory",
    ),
    "open key": (
        lambda _, folder: (folder / "svc.keystore.key").chmod(0o644),
        "broker.key_file: group or others may use it, but it is secret: chmod 600",
    ),
    "open link key": (lambda _, folder: (folder / "cryptor-keystore.json").chmod(0o640), "broker.link_file: group or"),
    "no link key": (lambda _, folder: (folder / "cryptor-keystore.json").write_text("{}"), "the keys of a link"),
    "password in the url": (
        lambda told, _: told["broker"].update(url="amqps://keystore:canary-5e17@localhost:5671/keystore"),
        "broker.url: String should match pattern",
    ),
}


@pytest.mark.parametrize(("spoil", "text"), SETTINGS.values(), ids=SETTINGS)
def test_bad_settings_are_named(told: Told, folder: Path, spoil: Spoil, text: str) -> None:
    """Before any connection is tried."""
    spoil(told, folder)
    code, said = start("workers.keystore", told, folder)
    assert code == 1
    assert said.splitlines()[0] == f"{folder / 'service.toml'}: correct these settings"
    assert text in said
    assert "canary-5e17" not in said


def test_a_bad_variable_is_named(told: Told, folder: Path) -> None:
    """It counts more than the file, so the file is not where to look."""
    code, said = start("workers.keystore", told, folder, TRIVAULT_DATABASE__PORT="x")
    assert code == 1
    assert "database.port: " in said
    assert "(set by TRIVAULT_DATABASE__PORT)" in said


@pytest.mark.parametrize("module", ["gateway", "workers.cryptor", "workers.datastore", "workers.mapstore"])
def test_a_service_without_settings_says_how_to_name_them(module: str) -> None:
    """Exit code 2, as every command line that lacks something."""
    done = subprocess.run(  # noqa: S603 - fixed argv
        [sys.executable, "-m", module], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "--config" in done.stderr


@pytest.fixture
def stranger(folder: Path) -> Path:
    """A certificate for the same role, and its CA, of another vault."""
    other = Authority.create("another CA")
    (folder / "other.pem").write_bytes(other.pem)
    other.client("svc.keystore").save(folder, "stranger")
    return folder


CONNECTIONS: Final[dict[str, tuple[Spoil, str, str]]] = {
    "no broker": (
        lambda told, _: told["broker"].update(url="amqps://localhost:1/keystore"),
        "broker_unreachable",
        "amqps://localhost:1/keystore: nobody speaks AMQP over TLS there",
    ),
    "another CA than the broker's": (
        lambda told, folder: told["broker"].update(ca_file=str(folder / "other.pem")),
        "broker_untrusted",
        "`ca_file` did not sign",
    ),
    "another host than on the broker's certificate": (
        lambda told, _: told["broker"].update(url=told["broker"]["url"].replace("localhost", "127.0.0.2")),
        "broker_unreachable",  # the broker listens on 127.0.0.1 alone
        "127.0.0.2",
    ),
    "a certificate of another CA for the broker": (
        lambda told, folder: told["broker"].update(
            cert_file=str(folder / "stranger.pem"), key_file=str(folder / "stranger.key")
        ),
        "broker_refused",
        "`cert_file`",
    ),
    "somebody else's vhost": (
        lambda told, _: told["broker"].update(url=told["broker"]["url"].replace("keystore", "mapstore")),
        "broker_refused",
        "/mapstore: the broker lets nobody into that vhost",
    ),
    "no database server": (
        lambda told, _: told["database"].update(port=1),
        "database_unavailable",
        "svc.keystore@localhost:1/keystore: nobody there",
    ),
    "another CA than the database's": (
        lambda told, folder: told["database"].update(ca_file=str(folder / "other.pem")),
        "database_unavailable",
        "`ca_file`",
    ),
    "a certificate of another CA for the database": (
        lambda told, folder: told["database"].update(
            cert_file=str(folder / "stranger.pem"), key_file=str(folder / "stranger.key")
        ),
        "database_unavailable",
        "svc.keystore@localhost",
    ),
    "somebody else's database": (
        lambda told, _: told["database"].update(name="mapstore"),
        "database_refused",
        "/mapstore: the server lets nobody into that database",
    ),
    "another role": (
        lambda told, _: told["database"].update(user="svc.mapstore"),
        "database_refused",
        "`user`",
    ),
}


@pytest.mark.parametrize(("spoil", "reason", "text"), CONNECTIONS.values(), ids=CONNECTIONS)
def test_a_connection_that_fails_says_where_and_what_to_look_at(
    told: Told, stranger: Path, spoil: Spoil, reason: str, text: str
) -> None:
    """The address, and the options that lead there."""
    spoil(told, stranger)
    code, said = start("workers.keystore", told, stranger)
    assert code == 1
    assert failure(said)[0] == reason
    assert text in failure(said)[1]


@pytest.mark.parametrize("wrong", ["bucket", "secret_key_file", "ca_file"])
def test_a_bad_s3_setting_says_where_and_what_to_look_at(
    stack: Stack, tmp_path: Path, rclone: S3Settings, wrong: str
) -> None:
    """A store without its objects does not serve."""
    (tmp_path / "other.pem").write_bytes(Authority.create("another CA").pem)
    (tmp_path / "wrong").touch(mode=0o600)
    (tmp_path / "wrong").write_text("wrong")
    bad = {"bucket": "absent", "secret_key_file": str(tmp_path / "wrong"), "ca_file": str(tmp_path / "other.pem")}
    told = tomllib.loads((stack.layout.etc / "datastore.toml").read_text())
    del told["directory"]
    told |= {"backend": "s3", "s3": json.loads(rclone.model_dump_json()) | {wrong: bad[wrong]}}
    code, said = start("workers.datastore", told, tmp_path)
    assert code == 1
    reason, advice = failure(said)
    assert reason.startswith("s3_")
    assert advice.startswith(rclone.endpoint_url)
    assert f"`{wrong}`" in advice or "key files" in advice
