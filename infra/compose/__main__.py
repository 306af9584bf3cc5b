"""What runs in the containers `init` and `admin`: `init`, or any command line of `trivault-admin`."""

import sys

from infra import admin
from infra.compose.vault import ContainerVault


def main() -> None:
    """Do what the command line says."""
    vault = ContainerVault()
    if sys.argv[1:] == ["init"]:
        vault.init()
    else:
        sys.exit(admin.run(sys.argv[1:], lambda _: vault))


if __name__ == "__main__":
    main()
