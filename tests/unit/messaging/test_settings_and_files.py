"""What a service reads at its start and while it runs: strict, named when wrong, never quoted."""

import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from infra.pki.authority import Authority
from messaging.settings import BrokerSettings, MonitoringSettings, ServiceSettings, load
from messaging.watching import Watched

CANARY = "canary-5e17"


class Settings(ServiceSettings):
    """A service's settings."""

    vault_id: str
    edge: BrokerSettings


GOOD = """
vault_id = "a"
[edge]
url = "amqps://localhost:5671/edge"
ca_file = "{folder}/ca.pem"
cert_file = "{folder}/svc.gateway.pem"
key_file = "{folder}/svc.gateway.key"
"""


def _load(tmp_path: Path, text: str) -> Settings:
    authority = Authority.create("a CA")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    authority.client("svc.gateway").save(tmp_path, "svc.gateway")
    file = tmp_path / "service.toml"
    file.write_text(text.format(folder=tmp_path))
    return load(Settings, ["--config", str(file)])


def test_settings_are_read_and_the_environment_counts_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One TOML file, environment on top."""
    assert _load(tmp_path, GOOD).edge.url == "amqps://localhost:5671/edge"
    monkeypatch.setenv("TRIVAULT_VAULT_ID", "b")
    assert _load(tmp_path, GOOD).vault_id == "b"


def test_nothing_listens_unless_a_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And then on the loopback interface; processes that share a file have their ports from the environment."""
    assert _load(tmp_path, GOOD).monitoring is None
    monkeypatch.setenv("TRIVAULT_MONITORING__PORT", "9464")
    assert _load(tmp_path, GOOD).monitoring == MonitoringSettings(address=IPv4Address("127.0.0.1"), port=9464)
    elsewhere = GOOD + '[monitoring]\naddress = "10.0.0.1"\nport = 1\n'
    assert _load(tmp_path, elsewhere).monitoring == MonitoringSettings(address=IPv4Address("10.0.0.1"), port=9464)


BAD = {
    "missing": (GOOD.replace("vault_id", "# "), "vault_id"),
    "missing below": (GOOD.replace("ca_file", "# "), "edge.ca_file"),
    "unknown": (f'vaultid = "{CANARY}"\n' + GOOD, "vaultid"),
    "unknown below": (GOOD + f'password = "{CANARY}"\n', "edge.password"),
    "a password in the url": (GOOD.replace("//", f"//alice:{CANARY}@"), "edge.url"),
    "no TLS": (GOOD.replace("amqps", "amqp"), "edge.url"),
    "monitoring by name": (GOOD + '[monitoring]\naddress = "localhost"\nport = 1\n', "monitoring.address"),
    "monitoring without port": (GOOD + "[monitoring]\n", "monitoring.port"),
    "no drain": ("drain_seconds = 0\n" + GOOD, "drain_seconds"),
    "wrong type": (f'drain_seconds = "{CANARY}"\n' + GOOD, "drain_seconds"),
    "a text for a section": (f'vault_id = "a"\nedge = "{CANARY}"\n', "edge"),
    "no section": ('vault_id = "a"\n', "edge"),
    "no TOML": (f"vault_id = {CANARY}", "service.toml"),
    "empty": ("", "vault_id"),
}


@pytest.mark.parametrize(("text", "named"), BAD.values(), ids=BAD)
def test_bad_settings_stop_the_service_and_name_the_field(tmp_path: Path, text: str, named: str) -> None:
    """What to correct is said; what stood there is not, for it may have been a password."""
    with pytest.raises(SystemExit) as caught:
        _load(tmp_path, text)
    assert f"{named}: " in str(caught.value)
    assert CANARY not in str(caught.value)


def test_every_bad_setting_is_named_at_once(tmp_path: Path) -> None:
    """Nobody has to start a service five times."""
    with pytest.raises(SystemExit) as caught:
        _load(tmp_path, "[edge]\n")
    for name in ("vault_id", "edge.url", "edge.ca_file", "edge.cert_file", "edge.key_file"):
        assert name in str(caught.value)


def test_a_malformed_variable_stops_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment is refused like the file, and not quoted either."""
    for name in ("TRIVAULT_EDGE", "TRIVAULT_EDGE__URL", "TRIVAULT_EDGE__PASSWORD", "TRIVAULT_DRAIN_SECONDS"):
        with monkeypatch.context() as patch:
            patch.setenv(name, CANARY)
            with pytest.raises(SystemExit) as caught:
                _load(tmp_path, GOOD)
        assert name.removeprefix("TRIVAULT_").lower().replace("__", ".") in str(caught.value)
        assert CANARY not in str(caught.value)


def test_a_variable_that_is_to_blame_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for it in the file."""
    monkeypatch.setenv("TRIVAULT_EDGE__URL", "http://localhost")
    with pytest.raises(SystemExit, match=r"edge\.url: .* \(set by TRIVAULT_EDGE__URL\)"):
        _load(tmp_path, GOOD)


def test_a_variable_of_no_option_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TRIVAULT_PROFILE is the client's, and may be set where a service is started."""
    monkeypatch.setenv("TRIVAULT_PROFILE", "elsewhere")
    assert _load(tmp_path, GOOD).vault_id == "a"


def test_a_missing_file_stops_the_service(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(SystemExit, match=r"absent\.toml: no such settings file"):
        load(Settings, ["--config", str(tmp_path / "absent.toml")])


def _replace(file: Path, text: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(text)
    new.rename(file)


def test_a_watched_file_is_read_again_only_when_it_was_replaced(tmp_path: Path) -> None:
    """By rename; the size and the time may be the same."""
    file, parsed = tmp_path / "registry", []

    def parse(text: bytes) -> bytes:
        parsed.append(text)
        return text

    file.write_bytes(b"one")
    watched = Watched(file, parse)
    stat = file.stat()
    assert [watched.current(), watched.current()] == [b"one", b"one"]
    assert parsed == [b"one"]
    _replace(file, b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert watched.current() == b"two"
    assert parsed == [b"one", b"two"]


def test_a_bad_replacement_is_an_error_until_it_is_mended(tmp_path: Path) -> None:
    """Deny by default: the old contents are not used on, since what is gone from them may be revoked."""
    file = tmp_path / "number"
    file.write_bytes(b"1")
    watched = Watched(file, int)
    _replace(file, b"x")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            watched.current()
    _replace(file, b"2")
    assert watched.current() == 2


def test_a_bad_file_stops_the_service_at_its_start(tmp_path: Path) -> None:
    """Missing or malformed."""
    with pytest.raises(FileNotFoundError):
        Watched(tmp_path / "absent", int)
    (tmp_path / "bad").write_bytes(b"x")
    with pytest.raises(ValueError, match="invalid literal"):
        Watched(tmp_path / "bad", int)
