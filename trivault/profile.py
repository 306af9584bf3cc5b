"""A client's profile: who it is, which vault it believes, and its secrets. One TOML file, mode 0600."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field, ValidationError

from messaging.settings import BrokerSettings, complaints


def _raw(size: int) -> AfterValidator:
    def decode(text: str) -> str:
        if len(bytes.fromhex(text)) != size:
            raise ValueError(f"must be {2 * size} hexadecimal digits")
        return text

    return AfterValidator(decode)


class Profile(BrokerSettings):
    """What enrolment hands out."""

    vault_id: UUID = Field(description="the vault that its requests name")
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")] = Field(
        description="its name at the broker, and the certificate's common name"
    )
    client_id: Annotated[str, _raw(16)] = Field(description="16 bytes: the owner of its records")
    signing_key: Annotated[str, _raw(32)] = Field(repr=False, description="32 bytes, secret: its Ed25519 seed")
    client_secret: Annotated[str, _raw(32)] = Field(
        repr=False, description="32 bytes, secret: request tags and the keys of answers are derived from it"
    )
    vault_identity: Annotated[str, _raw(32)] = Field(description="32 bytes: the vault's Ed25519 public key, pinned")

    @property
    def owner(self) -> bytes:
        """The client id, 16 raw bytes."""
        return bytes.fromhex(self.client_id)

    @property
    def broker(self) -> BrokerSettings:
        """How to reach the vault."""
        return BrokerSettings(url=self.url, ca_file=self.ca_file, cert_file=self.cert_file, key_file=self.key_file)

    @classmethod
    def read(cls, path: Path | str) -> "Profile":
        """Read a profile; its file names are relative to its own directory.

        Raises:
            ProfileError: it is missing, readable by others, or incomplete; the text says what to do.
        """
        path = Path(path)
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                told = tomllib.load(file)
        except FileNotFoundError:
            raise ProfileError(
                f"{path}: no such profile; ask the operator for one (trivault-admin client add)"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProfileError(f"{path}: not TOML ({error})") from None
        if mode & 0o077:
            raise ProfileError(f"{path}: others may read your secrets; run: chmod 600 {path}")
        for name in ("ca_file", "cert_file", "key_file"):
            if isinstance(told.get(name), str):
                told[name] = path.parent / told[name]
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            wrong = "; ".join(f"{option or 'certificate'}: {text}" for option, text in complaints(error))
            raise ProfileError(f"{path}: {wrong}. Mend it, or enrol again") from None


class ProfileError(Exception):
    """The profile cannot be used."""
