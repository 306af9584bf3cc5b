"""The data format: Cobblestone-256 exactly as the standard has it, split into the author's columns (docs/format.md §9).

Salt is `iv` (KeyStore), commitment is `auth_tag` (DataStore), the rest is `encrypted_data`. Salt and commitment are
known before the first chunk, so both stores work while the data still arrives. Glued together again, any implementation
of the standard reads it, given the DEK and the context.
"""

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from contracts.edge import SUITE
from contracts.limits import COBBLESTONE_HEADER, sealed_size
from contracts.lp import lp
from sealing.streams import Buffer, Opener, Sealer
from workers.cryptor.core.keys import Dek

DATA_LABEL: Final = b"trivault/data/v1"
SALT: Final = 24  # bytes


def data_context(external_uuid: UUID, owner: bytes, map_share: bytes) -> bytes:
    """What the data is bound to. With `map_share` in the key derivation, the MapStore row is needed to decrypt."""
    return lp(DATA_LABEL, SUITE.to_bytes(1, "big"), external_uuid.bytes, owner, map_share)


def encrypted_size(size: int) -> int:
    """Bytes of `encrypted_data` for `size` bytes of plaintext."""
    return sealed_size(size) - COBBLESTONE_HEADER


@dataclass(slots=True)
class DataEncryptor:
    """Encrypts one record under its own DEK; `iv` and `auth_tag` are there from the start."""

    _stream: Sealer = field(repr=False)
    iv: bytes = field(init=False)
    auth_tag: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Have the header written before any data."""
        header = self._stream.update(b"")
        self.iv, self.auth_tag = header[:SALT], header[SALT:]

    @classmethod
    def begin(cls, dek: Dek, context: bytes) -> "DataEncryptor":
        """Begin a record."""
        return cls(Sealer(dek.secret, context))

    def update(self, data: Buffer) -> bytes:
        """Encrypt the next bytes, at most 1 MiB."""
        return self._stream.update(data)

    def finish(self) -> bytes:
        """The last bytes of `encrypted_data`."""
        return self._stream.finish()


class DataDecryptor:
    """Decrypts one record; what `update` returns is provisional until `finish` returns."""

    def __init__(self, dek: Dek, context: bytes, iv: bytes, auth_tag: bytes) -> None:
        """Glue salt and commitment in front.

        Raises:
            SealError: `auth_tag` is no commitment to this DEK, context and salt.
        """
        self._stream = Opener(dek.secret, context)
        self._stream.update(iv + auth_tag)

    def update(self, data: Buffer) -> bytes:
        """Decrypt the next bytes, at most 1 MiB.

        Raises:
            SealError: they are not this record's.
        """
        return self._stream.update(data)

    def finish(self) -> bytes:
        """The last bytes of the record, now known to be whole.

        Raises:
            SealError: it is not.
        """
        return self._stream.finish()
