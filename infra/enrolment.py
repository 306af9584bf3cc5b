"""Enrolling a client.

Certificate, signing key, secret, profile, registry entry. The broker's user is its caller's affair.

The client id is drawn at random and never used again; the name only routes.
"""

import json
import secrets
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from contracts.codec import encode, parse
from contracts.registry import Client, Registry
from infra.files import PUBLIC, private_folder, write
from infra.pki.authority import Authority
from infra.provision import Secrets


class EnrolmentError(Exception):
    """A client cannot be enrolled; the text says what to do."""


def check_name(name: str, registry: Registry) -> None:
    """Refuse names that are not clients', or taken.

    Raises:
        EnrolmentError: with what to choose instead.
    """
    if not topology.CLIENT_NAME.fullmatch(name):
        raise EnrolmentError(f"{name!r} is no client name: use up to 32 of a-z, 0-9 and -, beginning with a letter")
    if any(client.name == name for client in registry.clients):
        raise EnrolmentError(f"{name!r} is enrolled already: choose another name (names are not given out twice)")


def registry_of(told: Secrets) -> Registry:
    """Who is enrolled."""
    return parse(Registry, told.registries[1].read_bytes())


def enrol(told: Secrets, name: str, *, url: str, operator: bool, profile: Path | None = None) -> Path:
    """Enrol `name` and write its profile, mode 0600, with its certificate beside it.

    Args:
        told: the vault's secrets.
        name: the new client's.
        url: of the `edge` vhost, `amqps://host:port/edge`.
        operator: whether it may ask for what only operators may.
        profile: where to; by default below the vault's own folder.

    Raises:
        EnrolmentError: the name is refused.
    """
    registry = registry_of(told)
    check_name(name, registry)
    folder = private_folder((profile.parent if profile else told.root / "clients" / name).absolute())
    target = profile.absolute() if profile else folder / "profile.toml"
    if target.exists():
        raise EnrolmentError(f"{target} exists: remove it or name another file")
    authority = Authority.load(told.authority)
    signing_key = Ed25519PrivateKey.generate()
    client = Client(
        name=name,
        client_id=secrets.token_bytes(16),
        verify_key=signing_key.public_key().public_bytes_raw(),
        operator=operator,
    )
    authority.client(name).save(folder, name)
    write(folder / "ca.pem", authority.pem, PUBLIC)
    told_client = {
        "vault_id": told.vault_id,
        "name": name,
        "client_id": client.client_id.hex(),
        "url": url,
        "ca_file": "ca.pem",
        "cert_file": f"{name}.pem",
        "key_file": f"{name}.key",
        "signing_key": signing_key.private_bytes_raw().hex(),
        "client_secret": secrets.token_hex(32),
        "vault_identity": told.identity.read_text().strip(),
    }
    write(target, tomli_w.dumps(told_client))
    added = Registry(clients=[*registry.clients, client])
    for copy in told.registries:
        write(copy, json.dumps(json.loads(encode(added)), indent=2) + "\n")
    return target
