"""The settings files of the services of a local stack."""

from pathlib import Path
from typing import Any, Literal

import tomli_w

from contracts import topology
from infra.files import write
from infra.local.layout import Layout
from infra.provision import Secrets

Backend = Literal["directory", "s3"]


def write_settings(layout: Layout, told: Secrets, backend: Backend, overrides: dict[str, dict[str, Any]]) -> None:
    """Write one TOML file per service; `overrides` may add to any of them."""
    files = {
        "gateway": _gateway(layout, told),
        "cryptor": _cryptor(layout, told),
        "keystore": _table(layout, told, topology.KEYSTORE),
        "mapstore": _table(layout, told, topology.MAPSTORE),
        "datastore": _datastore(layout, told, backend),
    }
    for service, settings in files.items():
        write(layout.etc / f"{service}.toml", tomli_w.dumps(settings | overrides.get(service, {})))


def certificate(folder: Path, role: str) -> dict[str, str]:
    """Who a role is, as settings have it."""
    return {
        "ca_file": str(folder / "ca.pem"),
        "cert_file": str(folder / f"{role}.pem"),
        "key_file": str(folder / f"{role}.key"),
    }


def broker_url(layout: Layout, vhost: str) -> str:
    """The URL of a vhost."""
    return f"amqps://localhost:{layout.broker(vhost).ports.amqps}/{vhost}"


def _link(layout: Layout, folder: Path, role: str, vhost: str, link: str) -> dict[str, str]:
    return {"url": broker_url(layout, vhost), **certificate(folder, role), "link_file": str(folder / f"{link}.json")}


def _database(layout: Layout, folder: Path, role: str, name: str) -> dict[str, Any]:
    return {
        "host": "localhost",
        "port": layout.ports.postgres,
        "name": name,
        "user": role,
        **certificate(folder, role),
    }


def _gateway(layout: Layout, told: Secrets) -> dict[str, Any]:
    folder = told.of("gateway")
    return {
        "vault_id": told.vault_id,
        "clients_file": str(folder / "clients.json"),
        "edge": _link(layout, folder, "svc.gateway", topology.EDGE, "gateway-cryptor"),
        "database": _database(layout, folder, "svc.gateway", "gateway"),
    }


def _cryptor(layout: Layout, told: Secrets) -> dict[str, Any]:
    folder = told.of("cryptor")
    return {
        "vault_id": told.vault_id,
        "clients_file": str(folder / "clients.json"),
        "keyring_file": str(folder / "keyring.json"),
        "identity_file": str(folder / "identity.pem"),
        "hpke_dir": str(folder / "hpke"),
        "edge": _link(layout, folder, "svc.cryptor", topology.EDGE, "gateway-cryptor"),
        **{
            store: _link(layout, folder, f"svc.cryptor.{store}", store, f"cryptor-{store}") for store in topology.STORES
        },
    }


def _table(layout: Layout, told: Secrets, store: str) -> dict[str, Any]:
    folder, role = told.of(store), f"svc.{store}"
    return {
        "broker": _link(layout, folder, role, store, f"cryptor-{store}"),
        "database": _database(layout, folder, role, store),
    }


def _datastore(layout: Layout, told: Secrets, backend: Backend) -> dict[str, Any]:
    folder = told.of("datastore")
    settings: dict[str, Any] = {
        "broker": _link(layout, folder, "svc.datastore", topology.DATASTORE, "cryptor-datastore"),
        "backend": backend,
    }
    if backend == "directory":
        settings["directory"] = {"path": str(layout.objects)}
    else:
        settings["s3"] = {
            "endpoint_url": f"https://localhost:{layout.ports.s3}",
            "bucket": "objects",
            "ca_file": str(folder / "ca.pem"),
            "access_key_file": str(folder / "s3.access"),
            "secret_key_file": str(folder / "s3.secret"),
        }
    return settings
