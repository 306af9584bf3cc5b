"""docker-compose.yml: who meets whom, who reads what, what no container has. Each rule has its planted violation."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.compose.vault import GROUPS, SERVERS

Document = dict[str, Any]

ROOT = Path(__file__).parents[3]
TOOLS = {"init", "admin", "client"}
NETWORKS = {
    "clients": {"client", "rabbitmq"},
    "gateway": {"gateway", "rabbitmq"},
    "gateway-db": {"gateway", "gateway-db"},
    "cryptor": {"cryptor", "rabbitmq"},
    "keystore": {"keystore", "rabbitmq"},
    "keystore-db": {"keystore", "keystore-db"},
    "mapstore": {"mapstore", "rabbitmq"},
    "mapstore-db": {"mapstore", "mapstore-db"},
    "datastore": {"datastore", "rabbitmq"},
    "s3": {"datastore", "s3"},
}
# What a container mounts beside its own volume at /vault, which it may only read.
MOUNTS = {
    "gateway": {"registry:/registry:ro"},
    "cryptor": {"registry:/registry:ro", "cryptor-hpke:/var/lib/hpke"},
    "s3": {"s3-data:/data"},
    "rabbitmq": {"rabbitmq-data:/var/lib/rabbitmq", "rabbitmq-seen:/seen"},
    **{f"{name}-db": {f"{name}-db-data:/var/lib/postgresql/data"} for name in ("gateway", "keystore", "mapstore")},
}
TOOL_MOUNTS = {
    "admin": {
        "vault:/vault",
        "registry:/registry",
        "client:/client",
        "rabbitmq:/secrets/rabbitmq",
        "rabbitmq-seen:/seen:ro",
    },
    "client": {"client:/client:ro", "work:/work", "${TRIVAULT_FILES:-.}:/files:ro"},
}
ENVIRONMENT = {
    "client": {"TRIVAULT_PROFILE"},
    "rabbitmq": {
        "RABBITMQ_NODENAME",
        "RABBITMQ_CONFIG_FILE",
        "RABBITMQ_ENABLED_PLUGINS_FILE",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
        "ERL_EPMD_ADDRESS",
    },
}
# Of the containers' keys, what docker-compose 1.29 and the plugin of today both know, and what we use of it.
KEYS = {
    *("build", "cap_drop", "command", "depends_on", "entrypoint", "environment", "group_add", "healthcheck", "image"),
    *("logging", "network_mode", "networks", "pids_limit", "profiles", "read_only", "restart", "security_opt"),
    *("shm_size", "stop_grace_period", "stop_signal", "tmpfs", "user", "volumes", "working_dir"),
}
EXACT = re.compile(r"^[a-z][a-z0-9/-]*:\d+\.\d+(\.\d+)?(-[a-z-]+)?$")


def read() -> Document:
    """The file."""
    document: Document = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def defaulted(text: str) -> str:
    """`${NAME:-default}` as its default."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def broken(document: Document) -> Iterator[str]:
    """The rules that a document breaks."""
    services: dict[str, Document] = document["services"]
    if {key for key in document if not key.startswith("x-")} != {"services", "networks", "volumes"}:
        yield "sections"
    if {network: (told or {}).get("internal") for network, told in document["networks"].items()} != dict.fromkeys(
        NETWORKS, True
    ):
        yield "internal"
    joined = {
        network: {name for name in services if network in services[name].get("networks", ())} for network in NETWORKS
    }
    if joined != NETWORKS or set().union(*(service.get("networks", ()) for service in services.values())) != set(
        joined
    ):
        yield "networks"
    for name, service in services.items():
        yield from (f"{name}: {rule}" for rule, holds in RULES.items() if not holds(name, service))


def _as_nobody_else(name: str, service: Document) -> bool:
    user, _, group = service.get("user", "").partition(":")
    return user.isdigit() and int(user) > 0 and group == str(GROUPS.get(name, 10000))


def _groups(name: str, service: Document) -> bool:
    wanted = {"init": [*map(str, GROUPS.values())], "admin": [str(GROUPS["rabbitmq"])]}
    return bool(service.get("group_add", []) == wanted.get(name, []))


def _volumes(name: str, service: Document) -> bool:
    wanted = TOOL_MOUNTS.get(name) or {f"{name}:/vault:ro"} | MOUNTS.get(name, set())
    return name == "init" or set(service["volumes"]) == wanted


RULES: dict[str, Callable[[str, Document], bool]] = {
    # No ports, cap_add, privileged, secrets, configs, devices, pid, ipc, deploy, ...
    "keys": lambda _, it: set(it) <= KEYS and "start_interval" not in it.get("healthcheck", {}),
    "network mode": lambda name, it: it.get("network_mode") == ("none" if name in {"init", "admin"} else None),
    "read-only root": lambda _, it: it.get("read_only") is True,
    "capabilities": lambda _, it: it.get("cap_drop") == ["ALL"],
    "new privileges": lambda _, it: it.get("security_opt") == ["no-new-privileges:true"],
    "bounds": lambda _, it: bool(it.get("pids_limit")) and "max-size" in it["logging"]["options"],
    "image tag": lambda _, it: bool(EXACT.match(defaulted(it["image"]))),
    "environment": lambda name, it: set(it.get("environment", {})) == ENVIRONMENT.get(name, set()),
    "user": _as_nobody_else,
    "groups": _groups,
    "volumes": _volumes,
    "health": lambda name, it: name in TOOLS or "healthcheck" in it,
}


def test_the_file_breaks_no_rule() -> None:
    """And the rules are about all of it."""
    document = read()
    assert set(document["services"]) == TOOLS | set(GROUPS)
    assert list(broken(document)) == []


PLANTED: list[tuple[str, Callable[[Document], object]]] = [
    ("sections", lambda it: it.update(name="vault")),
    ("internal", lambda it: it["networks"].update(clients=None)),
    ("internal", lambda it: it["networks"].update(shared={"internal": True})),
    ("networks", lambda it: it["services"]["keystore"]["networks"].append("mapstore")),
    ("networks", lambda it: it["services"]["client"]["networks"].append("gateway-db")),
    ("networks", lambda it: it["services"]["cryptor"].pop("networks")),
    ("s3: keys", lambda it: it["services"]["s3"].update(ports=["9000:9000"])),
    ("init: keys", lambda it: it["services"]["init"].update(cap_add=["CHOWN"])),
    ("gateway: keys", lambda it: it["services"]["gateway"]["healthcheck"].update(start_interval="1s")),
    ("admin: network mode", lambda it: it["services"]["admin"].pop("network_mode")),
    ("s3: network mode", lambda it: it["services"]["s3"].update(network_mode="host")),
    ("keystore: read-only root", lambda it: it["services"]["keystore"].update(read_only=False)),
    ("rabbitmq: capabilities", lambda it: it["services"]["rabbitmq"].pop("cap_drop")),
    ("gateway-db: new privileges", lambda it: it["services"]["gateway-db"].pop("security_opt")),
    ("cryptor: bounds", lambda it: it["services"]["cryptor"].pop("pids_limit")),
    ("s3: image tag", lambda it: it["services"]["s3"].update(image="rclone/rclone:latest")),
    ("rabbitmq: image tag", lambda it: it["services"]["rabbitmq"].update(image="${RABBITMQ_IMAGE:-rabbitmq:4}")),
    ("s3: environment", lambda it: it["services"]["s3"].update(environment={"RCLONE_AUTH_KEY": "a,b"})),
    ("mapstore: user", lambda it: it["services"]["mapstore"].update(user="0:10004")),
    ("mapstore: user", lambda it: it["services"]["mapstore"].update(user="10003:10003")),
    ("gateway: groups", lambda it: it["services"]["gateway"].update(group_add=["10002"])),
    ("mapstore: volumes", lambda it: it["services"]["mapstore"]["volumes"].append("keystore:/other:ro")),
    (
        "gateway: volumes",
        lambda it: it["services"]["gateway"].update(volumes=["gateway:/vault", "registry:/registry:ro"]),
    ),
    ("admin: volumes", lambda it: it["services"]["admin"]["volumes"].append("cryptor:/secrets/cryptor")),
    ("datastore: health", lambda it: it["services"]["datastore"].pop("healthcheck")),
]


@pytest.mark.parametrize(("rule", "plant"), PLANTED, ids=[f"{rule} {at}" for at, (rule, _) in enumerate(PLANTED)])
def test_a_planted_violation_is_found(rule: str, plant: Callable[[Document], object]) -> None:
    """So the rules hold something."""
    document = json.loads(json.dumps(read()))  # what anchors share comes apart
    plant(document)
    assert rule in set(broken(document))


def test_the_init_job_lays_out_every_volume_but_those_that_images_do() -> None:
    """At folders that its image makes: an empty volume takes over their owner."""
    document, made = read(), (ROOT / "Dockerfile").read_text()
    mounts = dict(volume.split(":") for volume in document["services"]["init"]["volumes"])
    theirs = {"work", "cryptor-hpke", "rabbitmq-data", "gateway-db-data", "keystore-db-data", "mapstore-db-data"}
    assert set(mounts) == set(document["volumes"]) - theirs
    for place in (*mounts.values(), "/work", "/var/lib/hpke"):
        assert re.search(rf"[ /]{place[1:]}[ ;\n]", made), place
    assert {volume: mounts[volume] for volume in GROUPS} == {name: f"/secrets/{name}" for name in GROUPS}


def test_dockerfile_and_compose_file_name_the_same_base() -> None:
    """Whichever way an image is built."""
    (base,) = re.findall(r"^ARG PYTHON_IMAGE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    builds = [service["build"] for service in read()["services"].values() if "build" in service]
    assert EXACT.match(base)
    assert {defaulted(build["args"]["PYTHON_IMAGE"]) for build in builds} == {base}
    extras = {build["args"]["EXTRAS"] for build in builds}
    assert extras == {"admin", "cli,admin", "gateway", "cryptor", "keystore", "mapstore", "datastore"}


def test_a_server_is_reached_under_a_name_of_its_certificate() -> None:
    """Its container's."""
    assert set(SERVERS) < set(read()["services"])
    assert all(name in names for name, names in SERVERS.items())
