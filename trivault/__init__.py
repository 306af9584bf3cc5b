"""trivault: keep sensitive binary records so that no thief of a store, of all stores, or of the broker can read them.

async with Vault.open("alice.toml") as vault:
    external_uuid = await vault.dump(b"...")
    blob = await vault.load(external_uuid)
"""

from contracts.edge import State
from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
from trivault.profile import Profile, ProfileError
from trivault.vault import Status, Vault

__all__ = [
    "FailureCode",
    "PermanentError",
    "Profile",
    "ProfileError",
    "State",
    "Status",
    "TransientError",
    "Vault",
    "VaultError",
]
