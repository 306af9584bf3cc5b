"""The DataStore's settings, parsed once and passed down."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from messaging.named_files import Folder, PrivateFile, ReadableFile
from messaging.settings import LinkSettings, ServiceSettings


class DirectorySettings(BaseModel):
    """Objects as files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Folder = Field(description="an existing directory, all of it on one volume that honours fsync")


class S3Settings(BaseModel):
    """Objects in S3. The bucket must not keep versions, or erased objects would stay readable in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint_url: str = Field(pattern=r"^https://[^/@?]+$", description="https://host[:port], no path, no key")
    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", description="an existing bucket without versioning"
    )
    region: str = Field(default="us-east-1", description="as requests are signed for")
    ca_file: ReadableFile = Field(description="PEM of the CA that signed the server")
    access_key_file: PrivateFile = Field(description="file that holds the access key id, mode 0600")
    secret_key_file: PrivateFile = Field(description="file that holds the secret access key, mode 0600")


class Settings(ServiceSettings):
    """Everything the DataStore can be told."""

    broker: LinkSettings = Field(description="the vhost `datastore`, as svc.datastore")
    backend: Literal["directory", "s3"] = Field(
        description="where objects are; its section is needed, the other refused"
    )
    directory: DirectorySettings | None = Field(default=None, description="objects as files")
    s3: S3Settings | None = Field(default=None, description="objects in S3")
    prefetch: int = Field(default=16, ge=1, le=1000, description="requests under way; each may hold 6 MiB")
    concurrency: int = Field(default=16, ge=1, le=256, description="objects read or written at a time")

    @model_validator(mode="after")
    def _has_its_backend_only(self) -> Self:
        if getattr(self, self.backend) is None or None not in (self.directory, self.s3):
            raise ValueError(f"backend = {self.backend!r} needs the section [{self.backend}] and no other backend's")
        return self
