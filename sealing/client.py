"""What a client derives from its own secret: tags that make requests idempotent, keys that open their answers.

Tags and keys depend on nothing but the secret and the job, so a client that was restarted can derive them again
(docs/format.md §6). The Cryptor never learns the secret.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.edge import Op
from contracts.lp import lp

TAG_LABEL: Final = b"trivault/tag/v1"
REPLY_LABEL: Final = b"trivault/reply/v1"


def signing_key(seed: bytes) -> Ed25519PrivateKey:
    """The key that requests are signed with, from its seed of 32 bytes (RFC 8032 §5.1.5)."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def request_tag(client_secret: bytes, op: Op, job_id: UUID, size: int, content_sha256: bytes) -> bytes:
    """HMAC-SHA-256 of what is asked for: the same job and tag are the same request, another tag is a conflict."""
    told = lp(TAG_LABEL, op.encode(), job_id.bytes, size.to_bytes(8, "big"), content_sha256)
    return hmac.digest(client_secret, told, "sha256")


def uuids_sha256(external_uuids: Sequence[UUID]) -> bytes:
    """The `content_sha256` of a request that names records instead of carrying content."""
    return hashlib.sha256(b"".join(each.bytes for each in external_uuids)).digest()


def sweep_sha256(*, dry_run: bool) -> bytes:
    """The `content_sha256` of a request for a sweep."""
    return hashlib.sha256(bytes([dry_run])).digest()


def reply_key(client_secret: bytes, job_id: UUID) -> bytes:
    """The key that answers to a dump, a batch or a sweep are sealed under (HMAC-SHA-256 as a PRF)."""
    return hmac.digest(client_secret, lp(REPLY_LABEL, job_id.bytes), "sha256")
