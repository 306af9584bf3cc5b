"""The settings files of a vault's services: what each is told, and of whom, wherever the vault runs.

Secrets are never values here, only paths to files in the service's own folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from contracts import topology

Backend = Literal["directory", "s3"]


@dataclass(frozen=True, slots=True)
class Place:
    """How the services of one vault find one another, and each its own files."""

    url: Callable[[str], str]  # of a vhost
    databases: Mapping[str, tuple[str, int]]  # host and port, by the service that owns it
    folder: Callable[[str], Path]  # of a service's secrets, where that service sees it
    clients: Callable[[str], Path]  # and the client registry
    hpke: Path
    objects: Path | None = None  # the DataStore keeps them there,
    s3: str = ""  # or behind this host:port


def settings(place: Place, vault_id: UUID) -> dict[str, dict[str, Any]]:
    """What each service is told."""
    return {
        "gateway": _gateway(place, vault_id),
        "cryptor": _cryptor(place, vault_id),
        "keystore": _table(place, topology.KEYSTORE),
        "mapstore": _table(place, topology.MAPSTORE),
        "datastore": _datastore(place),
    }


def certificate(folder: Path, role: str) -> dict[str, str]:
    """Who a role is, as settings have it."""
    return {
        "ca_file": str(folder / "ca.pem"),
        "cert_file": str(folder / f"{role}.pem"),
        "key_file": str(folder / f"{role}.key"),
    }


def _link(place: Place, service: str, role: str, vhost: str, link: str) -> dict[str, str]:
    folder = place.folder(service)
    return {"url": place.url(vhost), **certificate(folder, role), "link_file": str(folder / f"{link}.json")}


def _database(place: Place, service: str) -> dict[str, Any]:
    host, port = place.databases[service]
    role = f"svc.{service}"
    return {"host": host, "port": port, "name": service, "user": role, **certificate(place.folder(service), role)}


def _gateway(place: Place, vault_id: UUID) -> dict[str, Any]:
    return {
        "vault_id": str(vault_id),
        "clients_file": str(place.clients("gateway")),
        "edge": _link(place, "gateway", "svc.gateway", topology.EDGE, "gateway-cryptor"),
        "database": _database(place, "gateway"),
    }


def _cryptor(place: Place, vault_id: UUID) -> dict[str, Any]:
    folder = place.folder("cryptor")
    return {
        "vault_id": str(vault_id),
        "clients_file": str(place.clients("cryptor")),
        "keyring_file": str(folder / "keyring.json"),
        "identity_file": str(folder / "identity.pem"),
        "hpke_dir": str(place.hpke),
        "edge": _link(place, "cryptor", "svc.cryptor", topology.EDGE, "gateway-cryptor"),
        **{
            store: _link(place, "cryptor", f"svc.cryptor.{store}", store, f"cryptor-{store}")
            for store in topology.STORES
        },
    }


def _table(place: Place, store: str) -> dict[str, Any]:
    return {
        "broker": _link(place, store, f"svc.{store}", store, f"cryptor-{store}"),
        "database": _database(place, store),
    }


def _datastore(place: Place) -> dict[str, Any]:
    told: dict[str, Any] = {
        "broker": _link(place, "datastore", "svc.datastore", topology.DATASTORE, "cryptor-datastore")
    }
    if place.objects is not None:
        return told | {"backend": "directory", "directory": {"path": str(place.objects)}}
    folder = place.folder("datastore")
    s3 = {
        "endpoint_url": f"https://{place.s3}",
        "bucket": "objects",
        "ca_file": str(folder / "ca.pem"),
        "access_key_file": str(folder / "s3.access"),
        "secret_key_file": str(folder / "s3.secret"),
    }
    return told | {"backend": "s3", "s3": s3}
