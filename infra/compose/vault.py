"""A vault in containers: what lies in its volumes before anything starts, and how a client is enrolled later.

Every service mounts one volume read-only at `/vault`: its certificates, keys and settings, and nothing of anybody else.
Here all of them are mounted side by side below `/secrets`. Files belong to us; the group that a service runs as may
read them. So nobody needs a capability, and no service can change its own secrets (docs/adr/0012).
Nothing here uses the network: a new client reaches the broker as a new definitions file, which the broker takes over.
"""

import json
import os
import time
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final
from uuid import UUID

import tomli_w

from contracts import topology
from infra import enrolment
from infra.errors import StackError
from infra.files import PUBLIC, replace, write
from infra.postgres import render as postgres
from infra.provision import Secrets, fill
from infra.rabbitmq import render as rabbitmq
from infra.settings import Place, settings

# Who runs as which group: `user` in docker-compose.yml.
GROUPS: Final = {
    "gateway": 10001,
    "cryptor": 10002,
    "keystore": 10003,
    "mapstore": 10004,
    "datastore": 10005,
    "s3": 10006,
    "rabbitmq": 10007,
    "gateway-db": 10008,
    "keystore-db": 10009,
    "mapstore-db": 10010,
}
DATABASES: Final = ("gateway", "keystore", "mapstore")
SERVERS: Final = {name: (name, "localhost") for name in ("rabbitmq", "s3", *(f"{name}-db" for name in DATABASES))}

VOLUME: Final = Path("/vault")  # where a server finds its own volume,
COPY: Final = Path("/tmp/vault")  # noqa: S108 - and a service its private copy, in the container's memory
MONITORING: Final = 9464  # on the container's loopback interface, for its health check
REGISTRY: Final = Path("/registry/clients.json")  # gateway and Cryptor share it; it holds no secret
PLACE: Final = Place(
    url="amqps://rabbitmq:5671/{}".format,
    databases={name: (f"{name}-db", 5432) for name in DATABASES},
    folder=lambda _: COPY,
    clients=lambda _: REGISTRY,
    hpke=Path("/var/lib/hpke"),
    s3="s3:9000",
)
FIRST_CLIENT: Final = "me"
READ, READ_FOLDER, WRITE_FOLDER = 0o640, 0o2750, 0o2770  # set-group-ID: what replaces a file is its group's, too
TAKEN_OVER_SECONDS: Final = 60
POLL_SECONDS: Final = 0.2


class ContainerVault:
    """The volumes of one vault, as the containers `init` and `admin` mount them."""

    def __init__(self, base: Path = Path("/"), groups: Mapping[str, int] = GROUPS) -> None:
        """Describe them; `init` fills them."""
        self._folders = base / "secrets"
        self._objects = base / "data"  # of the S3 server, a folder for each bucket
        self._client = base / "client"
        self._seen = base / "seen"  # the broker's own words
        self._groups = groups
        self._registry = base / "registry"
        self.secrets = Secrets(base / "vault", folders=self._folders, registry=self._registry / "clients.json")

    def init(self) -> None:
        """Lay out what is missing, and settings and configurations anew; secrets that are there stay."""
        fill(self.secrets, SERVERS)
        for service, values in settings(PLACE, UUID(self.secrets.vault_id)).items():
            told = values | {"monitoring": {"port": MONITORING}}
            write(self.secrets.of(service) / "settings.toml", tomli_w.dumps(told))
        for name in DATABASES:
            self._database(name)
        if not enrolment.registry_of(self.secrets).clients:
            profile = self._client / "profile.toml"
            enrolment.enrol(self.secrets, FIRST_CLIENT, url=PLACE.url(topology.EDGE), operator=False, profile=profile)
        self._broker()
        for service, group in self._groups.items():
            _share(self.secrets.of(service), group)
        _give(self._seen, self._groups["rabbitmq"])
        bucket = self._objects / "objects"
        bucket.mkdir(exist_ok=True)
        for folder in (self._objects, bucket):
            _give(folder, self._groups["s3"])
        self._registry.chmod(0o755)
        (self._registry / "clients.json").chmod(PUBLIC)

    def _database(self, name: str) -> None:
        folder = self.secrets.of(f"{name}-db")
        configuration = postgres.configuration(
            addresses="*",
            port=PLACE.databases[name][1],
            sockets=Path("/tmp"),  # noqa: S108 - the container's own
            tls=COPY,
            hba_file=VOLUME / "pg_hba.conf",
            ident_file=VOLUME / "pg_ident.conf",
        )
        write(folder / "postgresql.conf", configuration)
        write(folder / "pg_hba.conf", postgres.hba([name], "samenet"))
        write(folder / "pg_ident.conf", postgres.ident("postgres"))
        write(folder / "schema.sql", postgres.schema(name))
        write(folder / "initdb.options", " ".join(postgres.INITDB))
        write(folder / "serve.sh", _script("postgres"))

    def _broker(self) -> None:
        folder = self.secrets.of("rabbitmq")
        configuration = rabbitmq.configuration(
            port=5671,
            address="0.0.0.0",  # noqa: S104 - of a container that only its networks reach
            tls=VOLUME,
            definitions_file=VOLUME / "definitions.json",
        )
        write(folder / "rabbitmq.conf", configuration)
        write(folder / "enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n")
        write(folder / "serve.sh", _script("rabbitmq"))
        self._define()

    def _define(self) -> None:
        """Write the broker's definitions: it reads them when it starts, and takes them over while it runs."""
        file = self.secrets.of("rabbitmq") / "definitions.json"
        with enrolment.alone(self.secrets):
            clients = [client.name for client in enrolment.registry_of(self.secrets).clients]
            text = json.dumps(rabbitmq.definitions(clients=clients), indent=2) + "\n"
            (replace if file.exists() else write)(file, text)  # a broker that runs can read it all the time

    # --- enrolling ------------------------------------------------------------------------------------------------

    def admit(self, name: str) -> None:
        """Admit every name: the definitions file is where this broker's users come from, and a broker can be down."""

    def enrol(self, name: str, *, operator: bool = False, profile: Path | None = None) -> Path:
        """Enrol a client, and wait until the broker knows it; the path of its profile.

        Raises:
            EnrolmentError: the name, or the place of the profile, is refused.
            StackError: the broker has not taken it over.
        """
        url, target = PLACE.url(topology.EDGE), profile or self._client / "profile.toml"
        path = enrolment.enrol(self.secrets, name, url=url, operator=operator, profile=target)
        self._define()
        if not self._taken_over():
            raise StackError(f"{name} is enrolled, but the broker does not know it yet: it will when it starts again")
        return path

    def _taken_over(self) -> bool:
        """Whether the broker says, in time, that it has the definitions of now."""
        deadline = time.monotonic() + TAKEN_OVER_SECONDS
        while time.monotonic() < deadline:
            wanted = sha256((self.secrets.of("rabbitmq") / "definitions.json").read_bytes()).hexdigest()
            told = self._seen / "definitions"
            if told.exists() and told.read_text().strip() == wanted:
                return True
            time.sleep(POLL_SECONDS)
        return False


def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.sh").read_text()


def _share(folder: Path, group: int) -> None:
    """Let a group read what is in a folder of ours, and what will be put there in its place."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, -1, group)
        path.chmod(READ_FOLDER if path.is_dir() else READ)


def _give(folder: Path, group: int) -> None:
    """Let a group write to a folder of ours."""
    os.chown(folder, -1, group)
    folder.chmod(WRITE_FOLDER)
