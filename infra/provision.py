"""Everything that a vault has before it starts.

Certificates, link keys, keyring, identity, registry, one folder per service.

Each service's folder holds what that service may know and nothing else. The keyring is the Cryptor's alone; it belongs
to no backup of the stores. Nothing here starts a process.
"""

import secrets
from pathlib import Path
from typing import Final
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from infra.files import PUBLIC, private_folder, write, write_json
from infra.pki.authority import Authority

SERVICES: Final = ("gateway", "cryptor", "keystore", "mapstore", "datastore")
SERVERS: Final = ("rabbitmq", "postgres", "s3")
LINKS: Final = (("gateway", "cryptor"), *(("cryptor", store) for store in topology.STORES))


class Secrets:
    """The folders of one vault's secrets below `root`."""

    def __init__(self, root: Path) -> None:
        """Look below `root`; `provision` fills it."""
        self.root = root
        self.authority = root / "ca"

    def of(self, service: str) -> Path:
        """The folder of one service."""
        return self.root / "secrets" / service

    @property
    def vault_id(self) -> str:
        """The vault's id."""
        return (self.root / "vault_id").read_text().strip()

    @property
    def registries(self) -> tuple[Path, Path]:
        """The two copies of the client registry."""
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
    """Make a new vault's secrets; an existing vault's are left as they are."""
    told = Secrets(private_folder(root))
    if told.provisioned():
        return told
    authority = Authority.create("trivault private CA")
    authority.save(private_folder(told.authority))
    for service in SERVICES:
        folder = private_folder(told.of(service))
        write(folder / "ca.pem", authority.pem, PUBLIC)
    for server in SERVERS:
        folder = private_folder(told.of(server))
        write(folder / "ca.pem", authority.pem, PUBLIC)
        authority.server(server).save(folder, "server")
    for role in topology.ROLES:
        authority.client(role).save(told.of(role.split(".")[1]), role)
    _links(told)
    private_folder(told.of("cryptor") / "hpke")
    for registry in told.registries:
        write_json(registry, {"clients": []})
    write(told.root / "vault_id", f"{uuid4()}\n", PUBLIC)
    identity = _identity(told)
    _keyring(told)  # from here on the vault exists: what is there already is never replaced
    write(told.identity, identity, PUBLIC)
    return told


def _links(told: Secrets) -> None:
    """One key per link, known to its two ends only."""
    for ends in LINKS:
        link = "-".join(ends)
        keys = {"link": link, "current": 1, "epochs": {"1": secrets.token_hex(32)}}
        for end in ends:
            write_json(told.of(end) / f"{link}.json", keys)


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
