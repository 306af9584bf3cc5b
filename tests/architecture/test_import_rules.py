"""Every import rule of pyproject.toml is broken once, on purpose, in a copy of the packages: the linter must say so."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]
LINT: Final = Path(sys.executable).with_name("lint-imports")

# Contract -> (module, what it must not import). At least one for every contract, and for every rule of design §3.
SEEDS: Final = {
    "Packages build on one another in one direction": [
        ("contracts/lp.py", "sealing.streams"),
        ("messaging/link.py", "sealing.streams"),
        ("sealing/streams.py", "gateway.desk"),
        ("workers/keystore/handlers.py", "workers.mapstore.handlers"),
        ("workers/datastore/handlers.py", "workers.cryptor.budget"),
        ("workers/cryptor/desk.py", "gateway.ledger"),
        ("trivault/vault.py", "infra.files"),
        ("gateway/desk.py", "trivault.sealer"),
    ],
    "sealing speaks no AMQP and keeps no logs": [("sealing/answers.py", "messaging.logs")],
    "Infrastructure and services do not know one another": [("infra/provision.py", "workers.cryptor.core.keys")],
    "Stores and gateway know nothing of sealing or of the Cryptor": [
        ("gateway/admission.py", "sealing.requests"),
        ("workers/mapstore/handlers.py", "sealing.streams"),
        ("workers/postgres.py", "sealing.streams"),
    ],
    "The Cryptor's core is sans-io": [
        ("workers/cryptor/core/fanout.py", "asyncio"),
        ("workers/cryptor/core/keys.py", "time"),
        ("workers/cryptor/core/format.py", "messaging.logs"),
    ],
    "Only messaging speaks AMQP": [("gateway/desk.py", "aio_pika"), ("trivault/session.py", "aiormq")],
    "Only messaging logs through structlog": [("workers/datastore/handlers.py", "structlog")],
    "Only messaging.metrics knows the metrics library": [
        ("gateway/desk.py", "prometheus_client"),
        ("messaging/rpc.py", "prometheus_client"),
    ],
    "The SDK needs no metrics library": [
        ("trivault/transfers.py", "messaging.sealed"),
        ("messaging/publishing.py", "messaging.metrics"),
    ],
    "Cryptography belongs to sealing, the link seal, the Cryptor and the private CA": [
        ("gateway/admission.py", "cryptography.fernet"),
        ("messaging/rpc.py", "cryptography.fernet"),
        ("workers/keystore/handlers.py", "cryptography.fernet"),
        ("trivault/sealer.py", "cryptography.fernet"),
    ],
    "Contracts need pydantic and nothing else": [
        ("contracts/codec.py", "cryptography"),
        ("contracts/lp.py", "asyncio"),
    ],
    "The S3 client belongs to the DataStore": [
        ("gateway/desk.py", "aiohttp"),
        ("gateway/ledger.py", "aiobotocore"),
        ("workers/cryptor/stores.py", "botocore"),
    ],
    "The database driver belongs to the gateway and the table stores": [
        ("workers/datastore/backend.py", "asyncpg"),
        ("workers/cryptor/stores.py", "asyncpg"),
        ("trivault/vault.py", "workers.postgres"),
    ],
    "The SDK needs neither typer nor rich": [
        ("trivault/content.py", "rich"),
        ("trivault/vault.py", "trivault.terminal"),
    ],
    "supervisor and tomli_w belong to infra": [("gateway/settings.py", "tomli_w")],
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their rules, to be spoilt."""
    target = tmp_path_factory.mktemp("packages")
    shutil.copy(REPOSITORY / "pyproject.toml", target)
    told = tomllib.loads((target / "pyproject.toml").read_text())
    for package in told["tool"]["importlinter"]["root_packages"]:
        shutil.copytree(REPOSITORY / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def lint(folder: Path) -> tuple[int, str]:
    """Exit code and words of the linter."""
    argv = [str(LINT), "--no-cache"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - fixed argv
    return done.returncode, done.stdout + done.stderr


def test_the_packages_keep_every_rule(copy: Path) -> None:
    """Nothing is broken in what is here."""
    code, said = lint(copy)
    assert code == 0, said


def test_every_rule_has_a_planted_violation() -> None:
    """A contract that is added without one is noticed."""
    told = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert {contract["name"] for contract in told["tool"]["importlinter"]["contracts"]} == set(SEEDS)


@pytest.mark.parametrize(
    ("contract", "module", "wanted"),
    [(contract, module, wanted) for contract, seeds in SEEDS.items() for module, wanted in seeds],
    ids=[f"{module} imports {wanted}" for seeds in SEEDS.values() for module, wanted in seeds],
)
def test_a_planted_violation_is_caught(copy: Path, contract: str, module: str, wanted: str) -> None:
    """One import more, and the linter names the contract."""
    spoilt = copy / module
    before = spoilt.read_text()
    try:
        spoilt.write_text(f"{before}\nimport {wanted}\n")
        code, said = lint(copy)
    finally:
        spoilt.write_text(before)
    assert code == 1
    broken = [line for line in said.splitlines() if line.rstrip().endswith("BROKEN") or " BROKEN" in line]
    assert any(line.startswith(contract) for line in broken), said
