"""The Cryptor's settings, parsed once and passed down."""

from pathlib import Path
from uuid import UUID

from pydantic import Field

from contracts.limits import MIB
from messaging.settings import LinkSettings, ServiceSettings


class Settings(ServiceSettings):
    """Everything a Cryptor can be told. Each link has its own URL: the vhosts may live on separate brokers."""

    vault_id: UUID = Field(description="the vault that requests must name")
    clients_file: Path = Field(description="JSON registry of enrolled clients: whose signatures count")
    keyring_file: Path = Field(description="JSON keyring: KEKs and map MAC keys, mode 0600")
    identity_file: Path = Field(description="PEM of the vault's Ed25519 identity, which clients pin, mode 0600")
    hpke_dir: Path = Field(description="directory (0700) of the short-lived HPKE keys, shared by all Cryptors")
    edge: LinkSettings
    keystore: LinkSettings
    datastore: LinkSettings
    mapstore: LinkSettings
    bulk_bytes: int = Field(default=256 * MIB, ge=MIB, description="budget of large jobs under way; the rest wait")
    client_bulk_jobs: int = Field(default=8, ge=1, description="large jobs of one client under way in one Cryptor")
    interactive_prefetch: int = Field(default=64, ge=1, le=1000, description="interactive job messages under way")
    bulk_prefetch: int = Field(default=16, ge=1, le=100, description="bulk jobs under way or waiting for the budget")
    attempt_seconds: float = Field(default=60, gt=0, description="for one attempt at an interactive job")
    bulk_attempt_seconds: float = Field(
        default=900, gt=0, lt=1800, description="for one attempt at a bulk job; below RabbitMQ's consumer timeout"
    )
    store_seconds: float = Field(default=10, gt=0, description="for one call of a store, before it is repeated")
    idle_seconds: float = Field(default=30, gt=0, description="that an upload may stand still")
    rotate_seconds: float = Field(default=86_400, gt=0, description="age at which the HPKE key is replaced")
