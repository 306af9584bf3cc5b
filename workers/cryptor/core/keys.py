"""Keys of the Cryptor: drawing DEKs and ids, wrapping DEKs by the KEK, the MAC of map rows (docs/format.md §10, §11).

Only this module draws randomness for records. The keyring is a file that belongs to the Cryptor alone and to no backup
of the stores.
"""

import hmac
import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from contracts.edge import SUITE
from contracts.failures import FailureCode, PermanentError
from contracts.lp import lp
from contracts.stores import Row, object_uuid
from sealing.streams import KEY_SIZE, open_sealed, seal

KEK_LABEL: Final = b"trivault/kek/v1"
MAP_LABEL: Final = b"trivault/map/v1"
KEK_ID: Final = 4  # bytes in front of a wrapped DEK


@dataclass(frozen=True, slots=True)
class Dek:
    """One record's data encryption key; its repr says nothing."""

    secret: bytes = field(repr=False)

    @classmethod
    def draw(cls) -> "Dek":
        """Draw a fresh key."""
        return cls(secrets.token_bytes(KEY_SIZE))


def draw_share() -> bytes:
    """Draw a record's `map_share`."""
    return secrets.token_bytes(KEY_SIZE)


def draw_uuid() -> UUID:
    """Draw an id (UUIDv4): it tells neither time nor place."""
    return uuid4()


def draw_object() -> UUID:
    """A fresh data_store_uuid: of the first entry in a new object (docs/format.md §12)."""
    return object_uuid(draw_uuid())


def draw_attempt() -> bytes:
    """Draw the 16 bytes that tell one download attempt from another."""
    return secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Keyring:
    """KEKs and map MAC keys: the current one is used, every known one is accepted."""

    current: bytes
    keks: dict[bytes, bytes] = field(repr=False)
    map_mac_current: int
    map_mac_keys: dict[int, bytes] = field(repr=False)

    @classmethod
    def from_file(cls, path: Path) -> "Keyring":
        """Read the keyring file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is malformed; the text does not quote it.
        """
        try:
            told = json.loads(path.read_bytes())
            keks = {bytes.fromhex(kek_id): bytes.fromhex(kek) for kek_id, kek in told["keks"].items()}
            macs = {int(number): bytes.fromhex(key) for number, key in told["map_mac_keys"].items()}
            ring = cls(bytes.fromhex(told["current"]), keks, int(told["map_mac_current"]), macs)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise ValueError(f"{path}: not a keyring") from None
        if not ring._complete():
            raise ValueError(f"{path}: a key is missing, has another length than 32 bytes, or an id is out of range")
        return ring

    def _complete(self) -> bool:
        every = [*self.keks.values(), *self.map_mac_keys.values()]
        known = self.current in self.keks and self.map_mac_current in self.map_mac_keys
        numbered = all(0 < number < 1 << 31 for number in self.map_mac_keys)  # MapStore keeps it as an integer
        named = all(len(kek_id) == KEK_ID for kek_id in self.keks)
        return known and numbered and named and all(len(key) == KEY_SIZE for key in every)

    def wrap(self, dek: Dek, owner: bytes, iv: bytes) -> bytes:
        """Wrap a DEK by the current KEK: kek_id, then a Cobblestone-256 stream.

        Its context names nothing that the DataStore or the MapStore knows, so that a KeyStore row can be rewrapped
        alone.
        """
        return self.current + seal(self.keks[self.current], _kek_context(self.current, owner, iv), dek.secret)

    def unwrap(self, wrapped: bytes, owner: bytes, iv: bytes) -> Dek:
        """Unwrap a KeyStore row's key.

        Raises:
            PermanentError: `integrity_failed`: `unknown_kek`, or it does not open.
        """
        kek_id = wrapped[:KEK_ID]
        if kek_id not in self.keks:
            raise PermanentError(FailureCode.INTEGRITY_FAILED, "unknown_kek")
        return Dek(open_sealed(self.keks[kek_id], _kek_context(kek_id, owner, iv), wrapped[KEK_ID:]))

    def sign_row(self, row: Row) -> Row:
        """The row with its MAC, under the current key."""
        mac_key = self.map_mac_current
        return row.model_copy(update={"mac_key": mac_key, "mac": self._mac(row, mac_key)})

    def verify_row(self, row: Row) -> None:
        """Check a row's MAC in constant time.

        Raises:
            PermanentError: `integrity_failed`: `unknown_mac_key` or `map_row`.
        """
        if row.mac_key not in self.map_mac_keys:
            raise PermanentError(FailureCode.INTEGRITY_FAILED, "unknown_mac_key")
        if not hmac.compare_digest(self._mac(row, row.mac_key), row.mac):
            raise PermanentError(FailureCode.INTEGRITY_FAILED, "map_row")

    def _mac(self, row: Row, mac_key: int) -> bytes:
        return hmac.digest(self.map_mac_keys[mac_key], _row_fields(row, mac_key), "sha256")


def _kek_context(kek_id: bytes, owner: bytes, iv: bytes) -> bytes:
    return lp(KEK_LABEL, SUITE.to_bytes(1, "big"), owner, kek_id, iv)


def _row_fields(row: Row, mac_key: int) -> bytes:
    """Every field of a row, under this key; an absent id is an empty field, which no id is."""
    ids = (row.external_uuid, row.data_store_uuid, row.key_store_uuid)
    return lp(
        MAP_LABEL,
        row.state.encode(),
        *(b"" if each is None else each.bytes for each in ids),
        row.map_share or b"",
        row.owner,
        row.job_id.bytes,
        row.item.to_bytes(4, "big"),
        row.request_tag,
        row.size.to_bytes(8, "big"),
        row.suite.to_bytes(1, "big"),
        mac_key.to_bytes(4, "big"),
    )
