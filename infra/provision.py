"""Everything that a vault has before it starts.

Certificates, link keys, keyring, identity, registry, one folder per service.

Each service's folder holds what that service may know and nothing else. The keyring is the Cryptor's alone; it belongs
to no backup of the stores. Nothing here starts a process.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from infra.files import PUBLIC, private_folder, write, write_json
from infra.pki.authority import SERVER_NAMES, Authority

SERVICES: Final = ("gateway", "cryptor", "keystore", "mapstore", "datastore")
SERVERS: Final = dict.fromkeys(("rabbitmq", "postgres", "s3"), SERVER_NAMES)  # of a vault on one machine
LINKS: Final = (("gateway", "cryptor"), *(("cryptor", store) for store in topology.STORES))


class Secrets:
    """The folders of one vault's secrets below `root`."""

    def __init__(self, root: Path, *, folders: Path | None = None, registry: Path | None = None) -> None:
        """Look below `root`, and where else services' folders or the client registry are; `provision` fills them."""
        self.root = root
        self.authority = root / "ca"
        self._folders = folders or root / "secrets"
        self._registry = registry

    def of(self, service: str) -> Path:
        """The folder of one service."""
        return self._folders / service

    @property
    def vault_id(self) -> str:
        """The vault's id."""
        return (self.root / "vault_id").read_text().strip()

    @property
    def registries(self) -> tuple[Path, ...]:
        """The client registry: one, or a copy each for gateway and Cryptor."""
        if self._registry is not None:
            return (self._registry,)
        return self.of("gateway") / "clients.json", self.of("cryptor") / "clients.json"

    @property
    def identity(self) -> Path:
        """The vault's public identity, for clients to pin: 64 hexadecimal digits."""
        return self.root / "vault_identity"

    @property
    def keyring(self) -> Path:
        """The Cryptor's keyring: without it no record can be read again."""
        return self.of("cryptor") / "keyring.json"

    def provisioned(self) -> bool:
        """Whether this vault exists. One of the two may have been lost, or not be restored yet: it still does."""
        return self.keyring.exists() or self.identity.exists()


def provision(root: Path) -> Secrets:
    """Make the secrets of a vault on one machine."""
    told = Secrets(root)
    fill(told, SERVERS)
    return told


def fill(told: Secrets, servers: Mapping[str, tuple[str, ...]]) -> None:
    """Make a new vault's secrets; an existing vault's are left as they are.

    Args:
        told: where to.
        servers: who listens, and under which names or addresses.
    """
    private_folder(told.root)
    if told.provisioned():
        return
    authority = Authority.create("trivault private CA")
    authority.save(private_folder(told.authority))
    for service in SERVICES:
        folder = private_folder(told.of(service))
        write(folder / "ca.pem", authority.pem, PUBLIC)
    for server, names in servers.items():
        folder = private_folder(told.of(server))
        write(folder / "ca.pem", authority.pem, PUBLIC)
        authority.server(server, names).save(folder, "server")
    for role in topology.ROLES:
        authority.client(role).save(told.of(role.split(".")[1]), role)
    _links(told)
    private_folder(told.of("cryptor") / "hpke")
    _s3_keys(told)
    for registry in told.registries:
        write_json(registry, {"clients": []})
    write(told.root / "vault_id", f"{uuid4()}\n", PUBLIC)
    identity = _identity(told)
    _keyring(told)  # from here on the vault exists: what is there already is never replaced
    write(told.identity, identity, PUBLIC)


def _links(told: Secrets) -> None:
    """One key per link, known to its two ends only."""
    for ends in LINKS:
        link = "-".join(ends)
        keys = {"link": link, "current": 1, "epochs": {"1": secrets.token_hex(32)}}
        for end in ends:
            write_json(told.of(end) / f"{link}.json", keys)


def _s3_keys(told: Secrets) -> None:
    """The one password of the stack; S3 has no client certificates."""
    access, secret = "trivault", secrets.token_hex(24)
    write(told.of("datastore") / "s3.access", access)
    write(told.of("datastore") / "s3.secret", secret)
    # rclone reads a list in CSV, so the quotes make the pair one element of it.
    write(told.of("s3") / "auth.csv", f'"{access},{secret}"')


def _identity(told: Secrets) -> str:
    """Draw the vault's identity; its public half, for clients to pin."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write(told.of("cryptor") / "identity.pem", pem)
    return key.public_key().public_bytes_raw().hex() + "\n"


def _keyring(told: Secrets) -> None:
    kek_id = secrets.token_hex(4)
    keyring = {
        "current": kek_id,
        "keks": {kek_id: secrets.token_hex(32)},
        "map_mac_current": 1,
        "map_mac_keys": {"1": secrets.token_hex(32)},
    }
    write_json(told.keyring, keyring)
