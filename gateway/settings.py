"""The gateway's settings, parsed once and passed down."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from contracts.limits import MIB
from messaging.settings import ClientsFile, DatabaseSettings, LinkSettings, ServiceSettings


class Quota(BaseModel):
    """How much may be under way. Beyond it a client sees `quota_exceeded` or `busy`, never a stall."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_jobs: int = Field(default=2_000, ge=1, description="unfinished jobs of one client")
    client_bytes: int = Field(default=4096 * MIB, ge=1, description="bytes of their payloads")
    jobs: int = Field(default=10_000, ge=1, description="unfinished jobs of all clients")
    bytes: int = Field(default=16384 * MIB, ge=1, description="bytes of their payloads")


class Settings(ServiceSettings):
    """Everything the gateway can be told."""

    vault_id: UUID = Field(description="the vault that requests must name")
    clients_file: ClientsFile = Field(description="JSON registry of enrolled clients; read again when it is replaced")
    edge: LinkSettings = Field(description="the vhost `edge`, as svc.gateway")
    database: DatabaseSettings = Field(description="the ledger")
    quota: Quota = Field(default=Quota(), description="how much may be under way")
    silence_seconds: float = Field(
        default=120, gt=0, description="after which a job that nobody spoke of is handed out again"
    )
    attempts: int = Field(default=5, ge=1, description="hand-outs of a job before it is settled as failed")
    retention_seconds: float = Field(default=7 * 86_400, gt=0, description="that the ledger remembers ended jobs")
    prefetch: int = Field(default=64, ge=1, le=1000, description="messages under way from each queue")
