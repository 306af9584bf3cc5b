"""The outer form of a sealed request: LP(head) LP(seal) LP(signature), then the inline payload (docs/format.md §5).

Splitting it needs no key and proves nothing. The gateway reads the head to route; only the Cryptor opens the rest.
"""

from dataclasses import dataclass, field
from typing import Final

from contracts.failures import NotOursError
from contracts.limits import KIB, MIB
from contracts.lp import lp, take_lp

MAX_HEAD: Final = 4 * KIB  # bytes of JSON; a head has 13 short fields
MAX_SEAL: Final = MIB  # bytes; holds the uuids of a request for 10,000 records
SIGNATURE: Final = 64  # bytes; Ed25519


@dataclass(frozen=True, slots=True)
class Envelope:
    """The four parts, none of them believed yet."""

    head: bytes
    seal: bytes
    signature: bytes
    payload: memoryview = field(repr=False)

    def prefix(self) -> bytes:
        """Everything before the payload, as sent."""
        return lp(self.head, self.seal, self.signature)


def split_envelope(body: bytes | memoryview) -> Envelope:
    """Split a request's body.

    Raises:
        NotOursError: `malformed_envelope`.
    """
    try:
        (head, seal, signature), payload = take_lp(body, 3)
    except ValueError:
        raise NotOursError("malformed_envelope") from None
    if len(head) > MAX_HEAD or len(seal) > MAX_SEAL or len(signature) != SIGNATURE:
        raise NotOursError("malformed_envelope")
    return Envelope(head, seal, signature, payload)
