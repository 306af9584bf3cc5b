"""The Cryptor's settings, parsed once and passed down."""

from typing import Annotated, Final, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.limits import CLOCK_SKEW, MAX_EXPIRY, MIB
from messaging.named_files import PrivateFile, PrivateFolder, holds
from messaging.settings import ClientsFile, LinkSettings, ServiceSettings
from workers.cryptor.core.keys import Keyring
from workers.cryptor.core.sweep import Policy
from workers.cryptor.hpke_keys import read_identity

DAY: Final = 86_400  # seconds


class SweepSettings(BaseModel):
    """How careful a sweep is (docs/adr/0009)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    grace_seconds: int = Field(
        default=25 * 3600,
        description="age below which nothing is looked at; no shorter than a request may live, with clock skew and its "
        "last attempt",
    )
    retention_seconds: int = Field(
        default=35 * DAY,
        ge=DAY,
        description="in quarantine before a purge; longer than the age of any MapStore backup that you would restore",
    )
    threshold: float = Field(
        default=0.01,
        ge=0,
        le=0.5,
        description="share of what a store holds; more candidates than that stop a sweep ...",
    )
    floor: int = Field(
        default=1_000,
        ge=0,
        description="... unless they are no more than so many: a Cryptor that dies in batches leaves 750",
    )

    @property
    def policy(self) -> Policy:
        """The same, as the core has it."""
        return Policy(
            grace=self.grace_seconds, retention=self.retention_seconds, threshold=self.threshold, floor=self.floor
        )


class Settings(ServiceSettings):
    """Everything a Cryptor can be told. Each link has its own URL: the vhosts may live on separate brokers."""

    vault_id: UUID = Field(description="the vault that requests must name")
    clients_file: ClientsFile = Field(
        description="JSON registry of enrolled clients, whose signatures count; read again when it is replaced"
    )
    keyring_file: Annotated[PrivateFile, holds("a keyring", Keyring.from_file)] = Field(
        description="JSON keyring: KEKs and map MAC keys, mode 0600"
    )
    identity_file: Annotated[PrivateFile, holds("an Ed25519 private key in PEM", read_identity)] = Field(
        description="PEM of the vault's Ed25519 identity, which clients pin, mode 0600"
    )
    hpke_dir: PrivateFolder = Field(
        description="directory of the short-lived HPKE keys, shared by all Cryptors of a vault, mode 0700"
    )
    edge: LinkSettings = Field(description="the vhost `edge`, as svc.cryptor")
    keystore: LinkSettings = Field(description="the vhost `keystore`, as svc.cryptor.keystore")
    datastore: LinkSettings = Field(description="the vhost `datastore`, as svc.cryptor.datastore")
    mapstore: LinkSettings = Field(description="the vhost `mapstore`, as svc.cryptor.mapstore")
    bulk_bytes: int = Field(default=256 * MIB, ge=MIB, description="bytes of large jobs under way; the rest wait")
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
    sweep: SweepSettings = Field(default=SweepSettings(), description="how careful a sweep is")

    @model_validator(mode="after")
    def _grace_outlives_every_request(self) -> Self:
        shortest = MAX_EXPIRY + CLOCK_SKEW + self.bulk_attempt_seconds
        if self.sweep.grace_seconds < shortest:
            raise ValueError(f"sweep.grace_seconds must be at least {shortest:.0f}: a request may live as long")
        return self
