"""The same round trips with the DataStore on S3: the shared stack's DataStore is moved there and back."""

import hashlib
import os
import tomllib
from collections.abc import Iterator

import pytest
import tomli_w

from infra.files import write
from infra.local.settings import write_settings
from infra.local.stack import Stack
from tests.sizes import SIZES
from trivault import Vault
from workers.datastore.settings import S3Settings


@pytest.fixture(scope="module", autouse=True)
def on_s3(stack: Stack, rclone: S3Settings) -> Iterator[None]:
    """The DataStore keeps objects in rclone's S3 server while this module runs."""
    file = stack.layout.etc / "datastore.toml"
    before = file.read_text()
    write_settings(stack.layout, stack.secrets, "s3", stack.overrides)
    moved = tomli_w.dumps({**tomllib.loads(file.read_text()), "s3": rclone.model_dump(mode="json")})
    write(file, moved)
    stack.restart("datastore")
    yield
    write(file, before)
    stack.restart("datastore")


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_dumped_to_s3_is_loaded(vault: Vault, size: int) -> None:
    """Bytes in, the same bytes out, through multipart uploads and ranged reads."""
    blob = os.urandom(size)
    assert hashlib.sha256(await vault.load(await vault.dump(blob))).digest() == hashlib.sha256(blob).digest()
