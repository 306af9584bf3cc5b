"""The settings files of the services of a local stack."""

from functools import partial
from typing import Any
from uuid import UUID

import tomli_w

from infra.files import write
from infra.local.layout import Layout
from infra.provision import Secrets
from infra.settings import Backend, Place, settings


def write_settings(layout: Layout, told: Secrets, backend: Backend, overrides: dict[str, dict[str, Any]]) -> None:
    """Write one TOML file per service; `overrides` may add to any of them."""
    place = Place(
        url=partial(broker_url, layout),
        databases=dict.fromkeys(("gateway", "keystore", "mapstore"), ("localhost", layout.ports.postgres)),
        folder=told.of,
        clients=lambda service: told.of(service) / "clients.json",
        hpke=told.of("cryptor") / "hpke",
        objects=layout.objects if backend == "directory" else None,
        s3=f"localhost:{layout.ports.s3}",
    )
    for service, values in settings(place, UUID(told.vault_id)).items():
        write(layout.etc / f"{service}.toml", tomli_w.dumps(values | overrides.get(service, {})))


def broker_url(layout: Layout, vhost: str) -> str:
    """The URL of a vhost."""
    return f"amqps://localhost:{layout.broker(vhost).ports.amqps}/{vhost}"
