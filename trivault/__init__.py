"""trivault: keep sensitive binary records so that no thief of a store, of all stores, or of the broker can read them.

async with Vault.open("alice.toml") as vault:
    external_uuid = await vault.dump(b"...")
    blob = await vault.load(external_uuid)

The names below are imported when they are first used (PEP 562), so that `trivault --help` need not wait for TLS, AMQP
and the wire models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from contracts.edge import State
    from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
    from trivault.bulk import Exported, Ingested
    from trivault.items import Batch, Item
    from trivault.profile import Profile, ProfileError
    from trivault.vault import Status, Vault

__all__ = [
    "Batch",
    "Exported",
    "FailureCode",
    "Ingested",
    "Item",
    "PermanentError",
    "Profile",
    "ProfileError",
    "State",
    "Status",
    "TransientError",
    "Vault",
    "VaultError",
]

_HOMES: Final = {
    "State": "contracts.edge",
    "FailureCode": "contracts.failures",
    "PermanentError": "contracts.failures",
    "TransientError": "contracts.failures",
    "VaultError": "contracts.failures",
    "Exported": "trivault.bulk",
    "Ingested": "trivault.bulk",
    "Batch": "trivault.items",
    "Item": "trivault.items",
    "Profile": "trivault.profile",
    "ProfileError": "trivault.profile",
    "Status": "trivault.vault",
    "Vault": "trivault.vault",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
