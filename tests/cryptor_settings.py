"""The settings of a Cryptor whose folder of secrets is somewhere, as a TOML file would have them."""

from pathlib import Path
from typing import Any, Final

LINKS: Final = {
    "edge": ("svc.cryptor", "gateway-cryptor"),
    **{store: (f"svc.cryptor.{store}", f"cryptor-{store}") for store in ("keystore", "datastore", "mapstore")},
}


def cryptor_settings(folder: Path) -> dict[str, Any]:
    """Whole, with every option that has no default."""
    return {
        "vault_id": "6f1f6c1e-58b2-4f6f-9d0b-5a1f6f0a7a11",
        "clients_file": str(folder / "clients.json"),
        "keyring_file": str(folder / "keyring.json"),
        "identity_file": str(folder / "identity.pem"),
        "hpke_dir": str(folder / "hpke"),
        **{
            section: {
                "url": f"amqps://localhost:5671/{section}",
                "ca_file": str(folder / "ca.pem"),
                "cert_file": str(folder / f"{role}.pem"),
                "key_file": str(folder / f"{role}.key"),
                "link_file": str(folder / f"{link}.json"),
            }
            for section, (role, link) in LINKS.items()
        },
    }
