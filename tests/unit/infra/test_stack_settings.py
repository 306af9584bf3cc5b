"""The settings files of a local stack: what each service reads is there, is its own, and names no secret."""

import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from docs.generate.configuration import SERVICES
from infra.files import private_folder
from infra.local.layout import Layout, Ports
from infra.local.settings import write_settings
from infra.provision import Secrets, provision
from infra.settings import Backend
from messaging.settings import load

LINKS = {
    ("gateway", "edge"): ("svc.gateway", "edge", "gateway-cryptor"),
    ("cryptor", "edge"): ("svc.cryptor", "edge", "gateway-cryptor"),
    ("cryptor", "keystore"): ("svc.cryptor.keystore", "keystore", "cryptor-keystore"),
    ("cryptor", "datastore"): ("svc.cryptor.datastore", "datastore", "cryptor-datastore"),
    ("cryptor", "mapstore"): ("svc.cryptor.mapstore", "mapstore", "cryptor-mapstore"),
    ("keystore", "broker"): ("svc.keystore", "keystore", "cryptor-keystore"),
    ("datastore", "broker"): ("svc.datastore", "datastore", "cryptor-datastore"),
    ("mapstore", "broker"): ("svc.mapstore", "mapstore", "cryptor-mapstore"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    """A vault's secrets."""
    return provision(tmp_path_factory.mktemp("vault"))


@pytest.fixture
def layout(told: Secrets, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Where its stack would be."""
    monkeypatch.setattr(Layout, "ports", Ports(5671, 25672, 4369, 5433, 9000))
    layout = Layout(told.root)
    for folder in (layout.etc, layout.objects):
        private_folder(folder)
    return layout


def raw(layout: Layout, service: str) -> dict[str, Any]:
    """A settings file as it stands."""
    return tomllib.loads((layout.etc / f"{service}.toml").read_text())


def leaves(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting, by its own name."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value)
        else:
            yield name, value


@pytest.mark.parametrize("backend", ["directory", "s3"])
@pytest.mark.parametrize("service", SERVICES)
def test_every_service_accepts_its_settings(layout: Layout, told: Secrets, service: str, backend: Backend) -> None:
    """The strict model of the service itself reads the file; the file is private; what it names is there."""
    write_settings(layout, told, backend, {})
    file = layout.etc / f"{service}.toml"
    load(SERVICES[service][1], ["--config", str(file)])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    named = [Path(value) for name, value in leaves(raw(layout, service)) if name.endswith(("_file", "_dir"))]
    assert named
    for path in named:
        assert path.exists(), path
        assert path.is_relative_to(told.of(service)), path


@pytest.mark.parametrize("place", LINKS, ids="-".join)
def test_every_link_is_entered_as_its_own_role(layout: Layout, told: Secrets, place: tuple[str, str]) -> None:
    """The certificate's common name, the vhost and the link key belong together."""
    write_settings(layout, told, "directory", {})
    service, section = place
    role, vhost, link = LINKS[place]
    settings = raw(layout, service)[section]
    assert settings["url"] == f"amqps://localhost:5671/{vhost}"
    assert Path(settings["link_file"]).name == f"{link}.json"
    certificate = x509.load_pem_x509_certificate(Path(settings["cert_file"]).read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN={role}"
    assert Path(settings["key_file"]).name == f"{role}.key"


def test_there_are_no_other_links(layout: Layout, told: Secrets) -> None:
    """Nobody is told of a vhost that is none of its business."""
    write_settings(layout, told, "directory", {})
    found = {
        (service, section)
        for service in SERVICES
        for section, value in raw(layout, service).items()
        if isinstance(value, dict) and "url" in value
    }
    assert found == LINKS.keys()


@pytest.mark.parametrize("service", ["gateway", "keystore", "mapstore"])
def test_a_database_is_entered_by_certificate(layout: Layout, told: Secrets, service: str) -> None:
    """Database, role and common name are one; there is no password to give."""
    write_settings(layout, told, "directory", {})
    settings = raw(layout, service)["database"]
    assert sorted(settings) == ["ca_file", "cert_file", "host", "key_file", "name", "port", "user"]
    certificate = x509.load_pem_x509_certificate(Path(settings["cert_file"]).read_bytes())
    assert certificate.subject.rfc4514_string() == f"CN={settings['user']}"
    assert (settings["name"], settings["user"]) == (service, f"svc.{service}")


@pytest.mark.parametrize("service", ["cryptor", "datastore"])
def test_who_has_no_database_is_told_of_none(layout: Layout, told: Secrets, service: str) -> None:
    """The Cryptor reaches rows through the stores alone."""
    write_settings(layout, told, "s3", {})
    assert "5433" not in (layout.etc / f"{service}.toml").read_text()
    assert "database" not in raw(layout, service)


def test_overrides_add_to_one_service(layout: Layout, told: Secrets) -> None:
    """And change no other."""
    write_settings(layout, told, "directory", {"cryptor": {"idle_seconds": 2.5}})
    assert raw(layout, "cryptor")["idle_seconds"] == 2.5
    assert raw(layout, "cryptor")["vault_id"] == told.vault_id
    assert "idle_seconds" not in raw(layout, "gateway")
