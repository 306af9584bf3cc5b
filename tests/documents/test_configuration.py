"""What `docs/configuration.md` shows is what a service accepts and says."""

import re
import shutil
import tomllib
from pathlib import Path
from typing import Final

import pytest

from docs.generate.__main__ import FOLDER
from docs.generate.configuration import SERVICES
from infra.files import write
from infra.provision import provision
from messaging.settings import ServiceSettings, load

PAGE: Final = (FOLDER / "configuration.md").read_text()
INSTALLED: Final = "/etc/trivault"


def section(name: str) -> str:
    """What the page has under a heading."""
    (found,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def example(name: str) -> str:
    """The settings file that the page shows of a service."""
    (found,) = re.findall(r"```toml\n(.*?)```", section(name), re.DOTALL)
    return str(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the examples name, in another place."""
    told = provision(tmp_path_factory.mktemp("vault"))
    for name in ("s3.access", "s3.secret"):
        write(told.of("datastore") / name, "x")
    return told.root / "secrets"


def start(settings: type[ServiceSettings], text: str, installed: Path) -> str:
    """What a service says to these settings; nothing if it would go on."""
    file = installed / "gateway.toml"
    file.write_text(text.replace(INSTALLED, str(installed)))
    try:
        load(settings, ["--config", str(file)])
    except SystemExit as refused:
        return str(refused).replace(str(installed), INSTALLED)
    return ""


@pytest.mark.parametrize("service", SERVICES)
def test_the_example_is_accepted_as_it_stands(installed: Path, service: str) -> None:
    """Whole and short: it lacks nothing, and says nothing that has a default, but the database's host."""
    settings = SERVICES[service][1]
    assert start(settings, example(service), installed) == ""
    told = tomllib.loads(example(service))
    assert [name for name in told if not settings.model_fields[name].is_required()] in ([], ["s3"])


@pytest.mark.parametrize("service", SERVICES)
def test_every_line_of_an_example_is_needed_or_explained(installed: Path, service: str) -> None:
    """Without any one of its lines the service starts by a default, or names the option that it misses."""
    lines = example(service).splitlines()
    for at, line in enumerate(lines):
        if " = " not in line or line.startswith("host"):
            continue
        name = line.partition(" = ")[0]
        assert name in start(SERVICES[service][1], "\n".join(lines[:at] + lines[at + 1 :]), installed)


def test_the_refusal_is_what_a_gateway_says(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Line by line."""
    copy = Path(shutil.copytree(installed, tmp_path / "etc"))
    (copy / "gateway" / "gateway-cryptor.json").chmod(0o640)
    monkeypatch.setenv("TRIVAULT_PREFETCH", "7000")
    said = start(SERVICES["gateway"][1], example("gateway"), copy)
    assert len(said.splitlines()) == 3
    assert said in "\n".join(line.removeprefix(" " * 6) for line in PAGE.splitlines())
