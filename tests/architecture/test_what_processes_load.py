"""What each process really loads, and what the wheel holds."""

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).parents[2]

S3: Final = {"aiobotocore", "botocore", "aiohttp", "boto3"}
DATABASE: Final = {"asyncpg"}
PEOPLE: Final = {"typer"}  # not rich: structlog takes it where it is installed
METRICS: Final = {"prometheus_client", "wsgiref"}
TOOLS: Final = {"supervisor", "tomli_w", "infra", "pytest"}
SERVICES: Final = {"gateway", "workers.cryptor", "workers.keystore", "workers.mapstore", "workers.datastore"}

# Process -> what it must not have loaded, and what shows that we looked.
PROCESSES: Final = {
    "gateway.__main__": (S3 | PEOPLE | TOOLS | SERVICES - {"gateway"} | {"sealing", "trivault"}, "asyncpg"),
    "workers.cryptor.__main__": (
        S3 | DATABASE | PEOPLE | TOOLS | SERVICES - {"workers.cryptor"} | {"trivault"},
        "sealing",
    ),
    "workers.keystore.__main__": (S3 | PEOPLE | TOOLS | SERVICES - {"workers.keystore"} | {"sealing"}, "asyncpg"),
    "workers.mapstore.__main__": (S3 | PEOPLE | TOOLS | SERVICES - {"workers.mapstore"} | {"sealing"}, "asyncpg"),
    "workers.datastore.__main__": (
        DATABASE | PEOPLE | TOOLS | SERVICES - {"workers.datastore"} | {"sealing"},
        "aio_pika",
    ),
    "trivault": (S3 | DATABASE | PEOPLE | TOOLS | METRICS | SERVICES, "trivault"),
    "trivault.vault": (S3 | DATABASE | PEOPLE | TOOLS | METRICS | SERVICES, "sealing"),
    "trivault.archive_commands": (S3 | DATABASE | TOOLS | METRICS | SERVICES, "typer"),
}


def loaded(module: str) -> set[str]:
    """Everything that is imported when `module` is."""
    script = f"import sys, importlib; importlib.import_module({module!r}); print(*sys.modules)"
    argv = [sys.executable, "-c", script]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - fixed argv
    return set(done.stdout.split())


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_loads_its_own_doors_only(process: str) -> None:
    """No S3 client outside the DataStore, no database driver in it, no aiohttp in the gateway, no CLI in services."""
    forbidden, wanted = PROCESSES[process]
    modules = loaded(process)
    assert wanted in modules
    assert sorted(forbidden & modules) == []


def test_the_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """Code, schemas and typing marker; no tests, no benchmarks, no secrets of a vault that runs here."""
    argv = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(argv, cwd=REPOSITORY, capture_output=True, timeout=60, check=True)  # noqa: S603 - fixed argv
    (wheel,) = tmp_path.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    packages = {"contracts", "sealing", "messaging", "gateway", "workers", "trivault", "infra"}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == packages
    assert {Path(name).suffix for name in names if ".dist-info/" not in name} == {".py", ".sql", ".sh"}
    for store in ("gateway", "keystore", "mapstore"):
        assert f"infra/postgres/{store}.sql" in names
