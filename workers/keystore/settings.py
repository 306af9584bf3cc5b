"""The KeyStore's settings, parsed once and passed down."""

from pydantic import Field

from messaging.settings import DatabaseSettings, LinkSettings, ServiceSettings


class Settings(ServiceSettings):
    """Everything the KeyStore can be told."""

    broker: LinkSettings = Field(description="the vhost `keystore`, as svc.keystore")
    database: DatabaseSettings = Field(description="its table")
    prefetch: int = Field(default=16, ge=1, le=1000, description="requests under way; each may hold 2 MiB")
