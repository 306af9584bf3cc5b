"""The DataStore's settings, parsed once and passed down."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from messaging.settings import LinkSettings, ServiceSettings


class DirectorySettings(BaseModel):
    """Objects as files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path = Field(description="an existing directory that only this service may enter; one volume, with fsync")


class S3Settings(BaseModel):
    """Objects in S3. The bucket must not keep versions, or erased objects would stay readable in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str = Field(pattern=r"^https://[^/@?]+$", description="https://host[:port]")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="exists, without versioning")
    region: str = "us-east-1"
    ca_file: Path = Field(description="PEM of the CA that signed the server")
    access_key_file: Path = Field(description="file that holds the access key id, mode 0600")
    secret_key_file: Path = Field(description="file that holds the secret access key, mode 0600")


class Settings(ServiceSettings):
    """Everything the DataStore can be told."""

    broker: LinkSettings
    backend: Literal["directory", "s3"]
    directory: DirectorySettings | None = None
    s3: S3Settings | None = None
    prefetch: int = Field(default=16, ge=1, le=1000, description="requests under way; each may hold 6 MiB")
    concurrency: int = Field(default=16, ge=1, le=256, description="objects read or written at a time")

    @model_validator(mode="after")
    def _has_its_backend_only(self) -> Self:
        if getattr(self, self.backend) is None or None not in (self.directory, self.s3):
            raise ValueError(f"backend = {self.backend!r} needs the section [{self.backend}] and no other backend's")
        return self
