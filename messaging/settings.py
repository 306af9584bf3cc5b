"""Settings that several services share, and how a service reads its own: one TOML file, environment on top.

Nothing else in the code base reads the environment of a service. Secrets are never values here, only paths to files
(`messaging.named_files`). `docs/configuration.md` is written from these models: a description says the unit.
"""

import argparse
import os
import ssl
import tomllib
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from contracts.codec import parse
from contracts.registry import Registry
from messaging.link import LinkKeys
from messaging.named_files import PrivateFile, ReadableFile, holds


class Certificate(BaseModel):
    """Who we are and whom we believe: the same private CA everywhere."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ca_file: ReadableFile = Field(description="PEM of the private CA that signed every peer")
    cert_file: ReadableFile = Field(description="PEM of this role's certificate; its common name is the role")
    key_file: PrivateFile = Field(description="PEM of its private key, not encrypted, mode 0600")

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        self.ssl_context()
        return self

    def ssl_context(self) -> ssl.SSLContext:
        """TLS 1.3 with verification of the peer and of its name, and our certificate.

        Raises:
            ValueError: a file is not what it should be.
        """
        try:
            context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.ca_file)
        except ssl.SSLError:
            raise ValueError("ca_file holds no certificate in PEM") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_cert_chain(self.cert_file, self.key_file, password=_no_password)
        except ssl.SSLError:
            raise ValueError("cert_file and key_file are not a certificate and its own key, both in PEM") from None
        return context


def _no_password() -> NoReturn:
    """Instead of asking for one on the terminal of a service."""
    raise ssl.SSLError("the key is encrypted")


class BrokerSettings(Certificate):
    """One vhost of one broker, entered as one role."""

    url: str = Field(pattern=r"^amqps://[^/@?]+/[a-z]+$", description="amqps://host:port/vhost, no user, no password")


class LinkSettings(BrokerSettings):
    """A vhost over which sealed internal messages travel."""

    link_file: Annotated[PrivateFile, holds("the keys of a link", LinkKeys.from_file)] = Field(
        description="JSON keys of the link seal, which the two ends of the link share; mode 0600"
    )


ClientsFile = Annotated[ReadableFile, holds("a registry of clients", lambda path: parse(Registry, path.read_bytes()))]


class DatabaseSettings(Certificate):
    """One PostgreSQL database, entered by certificate."""

    host: str = Field(default="localhost", description="as the server's certificate names it")
    port: int = Field(default=5432, ge=1, le=65535, description="TCP port")
    name: str = Field(description="the database")
    user: str = Field(description="the role; also the common name of the certificate")
    connections: int = Field(default=4, ge=1, le=64, description="connections in the pool, at most")

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
    port: int = Field(ge=1, le=65535, description="that it listens on")


class ServiceSettings(BaseSettings):
    """What every service's settings object builds on: unknown keys are refused."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        env_prefix="TRIVAULT_",
        env_nested_delimiter="__",
        toml_file=None,
    )

    log_level: Literal["debug", "info", "warning"] = Field(
        default="info",
        description="`debug` adds a line per store request, by which a job can be followed into the stores",
    )
    drain_seconds: float = Field(default=20, gt=0, description="that a stopping service may go on with work under way")
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
    except OSError as error:
        raise SystemExit(f"{file}: cannot be read: {error.strerror}") from None
    except (SettingsError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SystemExit(f"{file}: cannot be read as settings: {error}") from None
    except ValidationError as error:
        raise SystemExit("\n".join([f"{file}: correct these settings", *map(_line, complaints(error))])) from None


def complaints(error: ValidationError) -> list[tuple[str, str]]:
    """Which options are wrong, and how; never what stood there."""
    told = error.errors(include_input=False, include_context=False, include_url=False)
    return [(".".join(map(str, each["loc"])), each["msg"].removeprefix("Value error, ")) for each in told]


def _line(complaint: tuple[str, str]) -> str:
    option, text = complaint
    variable = "TRIVAULT_" + option.upper().replace(".", "__")
    return f"  {option}: {text}" + (f" (set by {variable})" if variable in os.environ else "")
