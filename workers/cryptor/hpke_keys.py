"""The Cryptors' short-lived HPKE keys, in a directory that all Cryptors of a vault share.

One file per key, written once, named by its time of birth. The newest is offered to clients, signed by the vault's
identity; older ones still open requests until none can be under way any more, and are then deleted.
"""

import os
import secrets
import time
from pathlib import Path
from typing import Final
from uuid import UUID

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.edge import KeyStatement
from contracts.failures import FailureCode, PermanentError
from contracts.limits import CLOCK_SKEW, MAX_EXPIRY
from sealing.keys import HpkeKey, generate_raw, sign_statement

# A client may use a statement until it expires, and its request may live as long again.
STATEMENT_SECONDS: Final = MAX_EXPIRY
KEEP_SECONDS: Final = STATEMENT_SECONDS + MAX_EXPIRY + 2 * CLOCK_SKEW


def read_identity(path: Path) -> Ed25519PrivateKey:
    """Read the vault's identity.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not an Ed25519 private key in PEM, or is encrypted.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path}: not an Ed25519 private key")  # noqa: TRY004 - what is wrong is the file's content
    return key


class HpkeKeys:
    """The keys in `directory`; blocking, but a handful of small files."""

    def __init__(self, directory: Path, identity: Ed25519PrivateKey, vault_id: UUID, rotate_seconds: float) -> None:
        """Offer keys in the name of `identity`; replace the newest when it is older than `rotate_seconds`."""
        self._directory = directory
        self._identity = identity
        self._vault_id = vault_id
        self._rotate_seconds = rotate_seconds
        self._keys: dict[bytes, HpkeKey] = {}

    def refresh(self) -> tuple[bytes, int]:
        """Rotate if it is time, forget what is too old; return the signed statement of now, and its time."""
        now = time.time()
        files = self._files()
        for born, file in files.items():
            if born < now - self._rotate_seconds - KEEP_SECONDS:
                file.unlink(missing_ok=True)
        if not files or max(files) < now - self._rotate_seconds:
            self._create(now)
        self._load()
        statement = KeyStatement(
            vault_id=self._vault_id,
            hpke_keys=[key.public for key in self._keys.values()][:1],
            issued_at=int(now),
            expires_at=int(now) + STATEMENT_SECONDS,
        )
        return sign_statement(statement, self._identity), statement.issued_at

    def named(self, key_id: bytes) -> HpkeKey:
        """The key that a request was sealed to; another Cryptor may have made it a moment ago.

        Raises:
            PermanentError: `invalid_request`, `unknown_key`.
        """
        if key_id not in self._keys:
            self._load()
        try:
            return self._keys[key_id]
        except KeyError:
            raise PermanentError(FailureCode.INVALID_REQUEST, "unknown_key") from None

    def _files(self) -> dict[int, Path]:
        return {int(file.name.partition("-")[0]): file for file in self._directory.glob("[0-9]*-*.key")}

    def _load(self) -> None:
        newest_first = sorted(self._files().items(), reverse=True)
        keys = [HpkeKey.from_raw(file.read_bytes()) for _, file in newest_first]
        self._keys = {key.key_id: key for key in keys}

    def _create(self, now: float) -> None:
        """Write under a hidden name and rename, so that nobody reads half a key."""
        name = f"{int(now)}-{secrets.token_hex(8)}.key"
        hidden = self._directory / f".{name}"
        descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(generate_raw())
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(self._directory / name)
