"""`docs/configuration.md`: what every service and a client's profile can be told, from the models that read it.

Options, types, limits, defaults and meanings are the models' own. Only the frame around the tables is written here.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any, Final, Literal, get_args, get_origin
from uuid import UUID

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import gateway.settings
import workers.cryptor.settings
import workers.datastore.settings
import workers.keystore.settings
import workers.mapstore.settings
from contracts import topology
from contracts.limits import MIB
from messaging.named_files import Folder, PrivateFile, PrivateFolder, ReadableFile
from messaging.settings import DatabaseSettings, LinkSettings, ServiceSettings
from trivault.profile import Profile
from workers.cryptor.settings import DAY

INTRODUCTION: Final = """\
# Configuration

`./dev docs` writes this page from the models that read the settings; a test compares.

A service reads **one TOML file**, named on its command line, once, at its start:

    python -m gateway --config /etc/trivault/gateway.toml

- **The environment counts more than the file.** An option's variable is `TRIVAULT_` and its name in capitals, with `__`
  for every dot: `quota.jobs` is `TRIVAULT_QUOTA__JOBS`. Variables that name no option of the service are not looked at.
- **Secrets are never values, only paths to files**, and each service has its own. Paths should be absolute; others
  count from the working directory.
- **Files are checked at the start**: each must be readable and hold what it should. One that holds a secret gives no
  right to group or others (mode 0600 or 0400, a directory 0700); the rest may be read by all, but changed by their
  owner only.
- **Unknown options are refused**, like anything else that is wrong. The service then ends with exit code 1 (2 if
  `--config` is missing) and names every wrong option at once, without what stood there:

      /etc/trivault/gateway.toml: correct these settings
        edge.link_file: group or others may use it, but it is secret: chmod 600
        prefetch: Input should be less than or equal to 1000 (set by TRIVAULT_PREFETCH)

- **A broker, database or S3 server that cannot be entered at the start** ends the service as well, with exit code 1.
  The last line of its log has the address, and the options to look at. Losses after that are waited out.
- **A change counts from the next start.** Only `clients_file` and `hpke_dir` are looked at all the time.

**Several processes of one service** may share its settings file. The Cryptors of a vault share `hpke_dir`; KeyStores
and MapStores share their database; when DataStores may share a store says [decision 8](adr/0008-packs.md).

"Required" means that there is no default. An option named `..._seconds` or `..._bytes` is counted in these.
"""

PROFILE: Final = """\
`trivault-admin client add NAME` writes it: one TOML file, mode 0600, named by `--profile` or `TRIVAULT_PROFILE`. No
option of it has a variable. Its file names are relative to its own directory; bytes are hexadecimal digits. Whoever has
it is the client.
"""

Section = dict[str, Any]


def _certificate(service: str, role: str) -> Section:
    here = f"/etc/trivault/{service}"
    return {"ca_file": f"{here}/ca.pem", "cert_file": f"{here}/{role}.pem", "key_file": f"{here}/{role}.key"}


def _link(service: str, role: str, vhost: str, link: str) -> Section:
    url, file = f"amqps://{vhost}-broker.example:5671/{vhost}", f"/etc/trivault/{service}/{link}.json"
    return {"url": url, **_certificate(service, role), "link_file": file}


def _database(service: str) -> Section:
    role = f"svc.{service}"
    return {"host": f"{service}-db.example", "name": service, "user": role, **_certificate(service, role)}


def _vault(service: str) -> Section:
    return {
        "vault_id": "6f1f6c1e-58b2-4f6f-9d0b-5a1f6f0a7a11",
        "clients_file": f"/etc/trivault/{service}/clients.json",
    }


def _store(store: str) -> Section:
    return _link(store, f"svc.{store}", store, f"cryptor-{store}")


EXAMPLES: Final[dict[str, Section]] = {
    "gateway": {
        **_vault("gateway"),
        "edge": _link("gateway", "svc.gateway", topology.EDGE, "gateway-cryptor"),
        "database": _database("gateway"),
    },
    "cryptor": {
        **_vault("cryptor"),
        "keyring_file": "/etc/trivault/cryptor/keyring.json",
        "identity_file": "/etc/trivault/cryptor/identity.pem",
        "hpke_dir": "/etc/trivault/cryptor/hpke",
        "edge": _link("cryptor", "svc.cryptor", topology.EDGE, "gateway-cryptor"),
        **{store: _link("cryptor", f"svc.cryptor.{store}", store, f"cryptor-{store}") for store in topology.STORES},
    },
    "keystore": {"broker": _store("keystore"), "database": _database("keystore")},
    "datastore": {
        "broker": _store("datastore"),
        "backend": "s3",
        "s3": {
            "endpoint_url": "https://s3.example",
            "bucket": "objects",
            "ca_file": "/etc/trivault/datastore/ca.pem",
            "access_key_file": "/etc/trivault/datastore/s3.access",
            "secret_key_file": "/etc/trivault/datastore/s3.secret",
        },
    },
    "mapstore": {"broker": _store("mapstore"), "database": _database("mapstore")},
}
SERVICES: Final[dict[str, tuple[str, type[ServiceSettings]]]] = {
    "gateway": ("gateway", gateway.settings.Settings),
    "cryptor": ("workers.cryptor", workers.cryptor.settings.Settings),
    "keystore": ("workers.keystore", workers.keystore.settings.Settings),
    "datastore": ("workers.datastore", workers.datastore.settings.Settings),
    "mapstore": ("workers.mapstore", workers.mapstore.settings.Settings),
}
SHARED: Final[dict[type[BaseModel], str]] = {LinkSettings: "link", DatabaseSettings: "database"}
FILES: Final = {
    get_args(ReadableFile)[1]: "file",
    get_args(PrivateFile)[1]: "secret file",
    get_args(Folder)[1]: "directory",
    get_args(PrivateFolder)[1]: "secret directory",
}
NAMES: Final[dict[Any, str]] = {str: "text", int: "integer", float: "number", UUID: "UUID", IPv4Address: "address"}
HOUR: Final = 3600  # seconds
UNITS: Final = ("seconds", "bytes")  # an option that ends like this is counted in it


def document() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for name, (module, settings) in SERVICES.items():
        parts += [
            f"## {name}",
            f"    python -m {module} --config {name}.toml",
            _example(EXAMPLES[name]),
            _table(settings),
        ]
    for shared, name in SHARED.items():
        told = f"Of every section whose type is *{name}*; the section's own name goes in front."
        parts += [f"## Options of a {name}", told, _table(shared, "SECTION.")]
    parts += ["## A client's profile", PROFILE, _table(Profile)]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _example(told: Section) -> str:
    return f"```toml\n{tomli_w.dumps(told)}```"


def _table(model: type[BaseModel], prefix: str = "") -> str:
    """One line per option; a variable for each, unless it is the profile's."""
    rows = [("option", "type", "default", "meaning", "variable"), ("---",) * 5, *_rows(model, prefix)]
    return "\n".join("| " + " | ".join(row[: 4 if model is Profile else 5]) + " |" for row in rows)


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, ...]]:
    for name, field in sorted(model.model_fields.items(), key=lambda item: _section(item[1]) is not None):
        section, meaning = _section(field), field.description
        if not meaning:
            raise ValueError(f"{model.__module__}.{model.__qualname__}.{name} has no description")
        if section is None:
            option = f"{prefix}{name}"
            variable = "TRIVAULT_" + option.upper().replace(".", "__")
            yield f"`{option}`", _type(name, field), _default(name, field), meaning, f"`{variable}`"
        else:
            shared = SHARED.get(section)
            needed = "required" if field.is_required() else "may be left out"
            yield f"`[{name}]`", f"*{shared}*" if shared else "section", needed, meaning, ""
            if shared is None:
                yield from _rows(section, f"{prefix}{name}.")


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a section."""
    for each in (field.annotation, *get_args(field.annotation)):
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None


def _type(name: str, field: FieldInfo) -> str:
    for each in field.metadata:
        if each in FILES:
            return FILES[each]
    if get_origin(field.annotation) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(field.annotation))
    limits = [f"{sign} {value}" for each in field.metadata for sign, value in _limits(each)]
    return ", ".join([" ".join(filter(None, (NAMES[field.annotation], _unit(name)))), *limits])


def _limits(constraint: object) -> Iterator[tuple[str, float]]:
    for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤")):
        value = getattr(constraint, name, None)
        if isinstance(value, int | float):
            yield sign, value


def _unit(name: str) -> str:
    unit = name.rpartition("_")[2]
    return f"of {unit}" if unit in UNITS else ""


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if isinstance(value, str | IPv4Address):
        return f"`{value}`"
    for unit, size in (("days", DAY), ("hours", HOUR)) if _unit(name) == "of seconds" else (("MiB", MIB),):
        if value > size and value % size == 0:
            return f"{value} ({value // size} {unit})"
    return f"{value}"
