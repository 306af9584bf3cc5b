"""Settings that several services share, and how a service reads its own: one TOML file, environment on top.

Nothing else in the code base reads the environment of a service. Secrets are never values here, only paths to files.
"""

import argparse
import ssl
import tomllib
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)


class Certificate(BaseModel):
    """Who we are and whom we believe: the same private CA everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path = Field(description="PEM of the private CA that signed every peer")
    cert_file: Path = Field(description="PEM of this role's certificate; its common name is the role")
    key_file: Path = Field(description="PEM of its private key, mode 0600")

    def ssl_context(self) -> ssl.SSLContext:
        """TLS 1.3 with verification of the peer and of its name, and our certificate."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


class BrokerSettings(Certificate):
    """One vhost of one broker, entered as one role."""

    url: str = Field(pattern=r"^amqps://[^/@?]+/[a-z]+$", description="amqps://host:port/vhost; no user, no password")


class LinkSettings(BrokerSettings):
    """A vhost over which sealed internal messages travel."""

    link_file: Path = Field(description="JSON key file of the link seal, mode 0600")


class DatabaseSettings(Certificate):
    """One PostgreSQL database, entered by certificate."""

    host: str = "localhost"
    port: int = Field(default=5432, ge=1, le=65535)
    name: str = Field(description="database")
    user: str = Field(description="role; the certificate's common name")
    connections: int = Field(default=4, ge=1, le=64, description="size of the connection pool")

    def asyncpg_arguments(self) -> dict[str, Any]:
        """What `asyncpg.create_pool` wants; the driver itself stays out of this package."""
        return {
            "host": self.host,
            "port": self.port,
            "database": self.name,
            "user": self.user,
            "ssl": self.ssl_context(),
            "min_size": 1,
            "max_size": self.connections,
            "reset": _as_it_is,
            "timeout": 15,  # seconds to connect
            "command_timeout": 30,  # seconds for any statement
        }


async def _as_it_is(_connection: object) -> None:
    """Nothing to reset: statements run alone and change no session. Saves a round trip for each."""


class MonitoringSettings(BaseModel):
    """Where a service answers its operators over plain HTTP: /metrics, /live, /ready (docs/observability.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: IPv4Address = Field(
        default=IPv4Address("127.0.0.1"), description="of an interface that only monitoring reaches"
    )
    port: int = Field(ge=1, le=65535)


class ServiceSettings(BaseSettings):
    """What every service's settings object builds on: unknown keys are refused."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="TRIVAULT_", env_nested_delimiter="__", toml_file=None
    )

    log_level: Literal["debug", "info", "warning"] = Field(
        default="info",
        description="`debug` adds a line per store request, by which a job can be followed into the stores",
    )
    drain_seconds: float = Field(default=20, gt=0, description="how long a stopping service may finish work under way")
    monitoring: MonitoringSettings | None = Field(default=None, description="left out, nothing listens")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the TOML file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


S = TypeVar("S", bound=ServiceSettings)


def load(settings: type[S], argv: Sequence[str] | None = None) -> S:
    """Read the settings of a service named on its command line, or stop with what to correct.

    Raises:
        SystemExit: the file is missing or an option is; the message names every one.
    """
    service = settings.__module__.rpartition(".")[0]
    parser = argparse.ArgumentParser(f"python -m {service}", description="Settings: docs/configuration.md")
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML file with this service's settings"
    )
    file: Path = parser.parse_args(argv).config
    if not file.is_file():
        raise SystemExit(f"{file}: no such settings file")
    from_file: type[S] = type(settings.__name__, (settings,), {"model_config": SettingsConfigDict(toml_file=file)})
    try:
        return from_file()
    except (OSError, SettingsError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SystemExit(f"{file}: cannot be read as settings: {error}") from None
    except ValidationError as error:
        lines = (f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
        raise SystemExit("\n".join([f"{file}: correct these settings", *lines])) from None
