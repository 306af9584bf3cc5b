"""What the stores hold beyond records: keys and objects that nothing names, and records that lack a piece."""

from pathlib import Path
from uuid import UUID

from infra.local.stack import Stack
from workers.datastore.format import TOMBSTONE


def sql(statement: str, *values: object) -> str:
    """A statement with values of the tests' own put in place of its `{}`."""
    return statement.format(*values)


def objects(stack: Stack) -> dict[str, Path]:
    """Objects in the DataStore by id (32 hexadecimal digits), tombstones left out."""
    found = (stack.layout.objects / "objects").glob("*/*")
    return {path.name: path for path in found if path.stat().st_size != len(TOMBSTONE)}


def orphans(stack: Stack) -> set[str]:
    """Ids of keys and objects that no record names, and of those that a record names and are not there."""
    rows = stack.psql("mapstore", "SELECT key_store_uuid, data_store_uuid FROM map WHERE state = 'live'").split()
    keys = stack.psql("keystore", "SELECT key_store_uuid FROM keys WHERE erased_at IS NULL").split()
    named = {uuid.replace("-", "") for row in rows for uuid in row.split("|")}
    return named ^ (objects(stack).keys() | {uuid.replace("-", "") for uuid in keys})


def forget(stack: Stack, job_id: UUID) -> None:
    """Have the ledger forget a job, as it does after a week."""
    stack.psql("gateway", sql("DELETE FROM jobs WHERE job_id = '{}'", job_id))
