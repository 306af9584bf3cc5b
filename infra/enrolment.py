"""Enrolling a client.

Certificate, signing key, secret, profile, registry entry. The broker's user is its caller's affair.

The client id is drawn at random and never used again; the name only routes.
"""

import fcntl
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from contracts.codec import encode, parse
from contracts.registry import Client, Registry
from infra.files import PUBLIC, private_folder, replace, write
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
    return parse(Registry, told.registries[-1].read_bytes())


def enrol(told: Secrets, name: str, *, url: str, operator: bool, profile: Path | None = None) -> Path:
    """Enrol `name` and write its profile, mode 0600, with its certificate beside it.

    Args:
        told: the vault's secrets.
        name: the new client's.
        url: of the `edge` vhost, `amqps://host:port/edge`.
        operator: whether it may ask for what only operators may.
        profile: where to; by default below the vault's own folder.

    Raises:
        EnrolmentError: the name, or the place of the profile, is refused.
    """
    with alone(told):
        registry = registry_of(told)
        check_name(name, registry)
        target = (profile or told.root / "clients" / name / "profile.toml").absolute()
        authority = Authority.load(told.authority)
        _check_place(target, name, authority.pem)
        signing_key = Ed25519PrivateKey.generate()
        client = Client(
            name=name,
            client_id=secrets.token_bytes(16),
            verify_key=signing_key.public_key().public_bytes_raw(),
            operator=operator,
        )
        authority.client(name).save(target.parent, name)
        write(target.parent / "ca.pem", authority.pem, PUBLIC)
        write(target, tomli_w.dumps(_profile(told, client, signing_key, url)))
        added = Registry(clients=[*registry.clients, client])
        for copy in told.registries:
            replace(copy, json.dumps(json.loads(encode(added)), indent=2) + "\n")
    return target


@contextmanager
def alone(told: Secrets) -> Iterator[None]:
    """Nobody else enrols meanwhile: the registry is read, added to and replaced."""
    with (told.root / "enrolment.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it is closed
        yield


def _check_place(target: Path, name: str, ca: bytes) -> None:
    """Overwrite nobody's files; a folder that is there already keeps its mode."""
    folder = target.parent
    if not folder.exists():
        private_folder(folder)
    for file in (target, folder / f"{name}.pem", folder / f"{name}.key"):
        if file.exists():
            raise EnrolmentError(f"{file} exists: remove it, or have the profile written to another folder")
    if (folder / "ca.pem").exists() and (folder / "ca.pem").read_bytes() != ca:
        raise EnrolmentError(f"{folder / 'ca.pem'} is another vault's: have the profile written to another folder")


def _profile(told: Secrets, client: Client, signing_key: Ed25519PrivateKey, url: str) -> dict[str, str]:
    return {
        "vault_id": told.vault_id,
        "name": client.name,
        "client_id": client.client_id.hex(),
        "url": url,
        "ca_file": "ca.pem",
        "cert_file": f"{client.name}.pem",
        "key_file": f"{client.name}.key",
        "signing_key": signing_key.private_bytes_raw().hex(),
        "client_secret": secrets.token_hex(32),
        "vault_identity": told.identity.read_text().strip(),
    }
