"""Keys and objects of a stack, and time that passes for them: rows are aged by their owner, files by their times."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from contracts.stores import object_uuid
from infra.local.stack import Stack
from tests.refusals.leftovers import sql
from workers.datastore.format import TOMBSTONE

DAY: Final = 86_400  # seconds


@dataclass(frozen=True)
class Piece:
    """A key and an object; whether a record names them is not their affair."""

    stack: Stack
    key: UUID
    object: UUID

    @property
    def file(self) -> Path:
        """The object."""
        return self.stack.layout.objects / "objects" / self.object.hex[:2] / self.object.hex

    @property
    def mark(self) -> Path:
        """The object's mark, if it is in quarantine."""
        return self.stack.layout.objects / "quarantine" / self.object.hex

    def age(self, days: float) -> None:
        """Make them older."""
        self._keystore("UPDATE keys SET created_at = now() - interval '{} days' WHERE key_store_uuid = '{}'", days)
        os.utime(self.file, (0, time.time() - days * DAY))

    def age_in_quarantine(self, days: float) -> None:
        """Make their time in quarantine longer."""
        statement = "UPDATE quarantine SET quarantined_at = now() - interval '{} days' WHERE key_store_uuid = '{}'"
        self._keystore(statement, days)
        os.utime(self.mark, (0, time.time() - days * DAY))

    def _keystore(self, statement: str, days: float) -> None:
        self.stack.psql("keystore", sql(statement, days, self.key))

    def forget(self) -> None:
        """Leave nothing of them for the next test's sweep."""
        for table in ("keys", "quarantine"):
            self.stack.psql("keystore", sql("DELETE FROM {} WHERE key_store_uuid = '{}'", table, self.key))
        for file in (self.file, self.mark):
            file.unlink(missing_ok=True)

    @property
    def quarantined(self) -> tuple[bool, bool]:
        """Whether the key, and whether the object, is in quarantine."""
        found = self.stack.psql("keystore", sql("SELECT 1 FROM quarantine WHERE key_store_uuid = '{}'", self.key))
        return found == "1", self.mark.exists()

    @property
    def there(self) -> tuple[bool, bool]:
        """Whether the key, and whether the object, has not been erased."""
        query = sql("SELECT 1 FROM keys WHERE key_store_uuid = '{}' AND erased_at IS NULL", self.key)
        return self.stack.psql("keystore", query) == "1", self.file.read_bytes() != TOMBSTONE


BOTH: Final = (True, True)
NEITHER: Final = (False, False)


def piece_of(stack: Stack, external_uuid: UUID) -> Piece:
    """A record's key and object."""
    query = sql("SELECT key_store_uuid, data_store_uuid FROM map WHERE external_uuid = '{}'", external_uuid)
    key_id, data_id = stack.psql("mapstore", query).split("|")
    return Piece(stack, UUID(key_id), object_uuid(UUID(data_id)))
