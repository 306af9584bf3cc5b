"""docs/asyncapi.json is AsyncAPI 3.0 by the official schema, and says what is really on the wire."""

import copy
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from jsonschema import Draft7Validator, FormatChecker

from contracts.codec import encode
from contracts.edge import Head, KeyStatement
from contracts.failures import PermanentError
from contracts.sweep import SweepReport
from docs.generate.__main__ import FOLDER
from messaging.consuming import Delivery
from messaging.publishing import META, Outgoing, Publisher
from tests.fix_node import Node
from tests.vectors import material as given
from tests.vectors.generate import DIRECTORY
from trivault import Profile, Vault

Json = dict[str, Any]
Said = dict[str, list[str]]  # metas by type of message

DOCUMENT: Final[Json] = json.loads((FOLDER / "asyncapi.json").read_text())
TYPES: Final = {message["name"]: message for message in DOCUMENT["components"]["messages"].values()}


@pytest.fixture(scope="session")
def official(node: Node) -> Draft7Validator:
    """The official JSON schema of AsyncAPI 3.0, with that of its AMQP bindings."""
    schema = node.package("@asyncapi/specs") / "schemas" / "3.0.0.json"
    return Draft7Validator(json.loads(schema.read_text()))


def test_the_document_is_asyncapi(official: Draft7Validator) -> None:
    """By the official schema."""
    assert [error.message for error in official.iter_errors(DOCUMENT)] == []


def _break(path: str, value: object) -> Callable[[Json], None]:
    """Set one thing in the document; `None` takes it away."""

    def act(document: Json) -> None:
        *way, last = path.split("/")
        at = document
        for step in way:
            at = at[step]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return act


BROKEN: Final = {
    "a kind of exchange that AMQP has not": _break("channels/requests/bindings/amqp/exchange/type", "broadcast"),
    "a channel that is queue and exchange": _break("channels/requests/bindings/amqp/queue", {"name": "requests"}),
    "a channel without its queue": _break("channels/downloads/bindings/amqp/queue", None),
    "a channel with an unknown field": _break("channels/uploads/adress", "up"),
    "an address that is no text": _break("channels/requests/address", 5),
    "an operation that neither sends nor receives": _break("operations/request/action", "publish"),
    "an operation without a channel": _break("operations/upload/channel", None),
    "a message whose header is no object": _break("components/messages/Request/headers", "meta"),
    "an unknown security scheme": _break("components/securitySchemes/certificate/type", "EXTERNAL"),
    "another version": _break("asyncapi", "2.6.0"),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_broken_document_is_refused(official: Draft7Validator, spoil: Callable[[Json], None]) -> None:
    """The check can fail."""
    broken = copy.deepcopy(DOCUMENT)
    spoil(broken)
    assert not official.is_valid(broken)


def _references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for each in part:
            yield from _references(each)


def _resolve(reference: str) -> Any:
    at: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        at = at[step]
    return at


def test_every_reference_leads_somewhere() -> None:
    """The official schema does not look."""
    references = set(_references(DOCUMENT))
    assert len(references) > 20
    for reference in references:
        assert _resolve(reference) is not None


def schema(name: str) -> Draft7Validator:
    """A schema of the document, with those that it refers to."""
    told = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return Draft7Validator(told, format_checker=FormatChecker())


def _meta(type_: str) -> Draft7Validator:
    """The schema of the JSON text in a message's header."""
    reference = TYPES[type_]["headers"]["properties"][META]["contentSchema"]["$ref"]
    return schema(reference.rpartition("/")[2])


def _said(messages: Iterable[Json]) -> Said:
    said: Said = defaultdict(list)
    for message in messages:
        said[message["type"]].append(message["meta"])
    return said


def _hold(said: Said) -> None:
    for type_, metas in said.items():
        for meta in metas:
            assert [error.message for error in _meta(type_).iter_errors(json.loads(meta))] == [], type_


def _read(name: str) -> Any:
    return json.loads((DIRECTORY / f"{name}.json").read_text())


def test_frozen_messages_fit_their_schemas() -> None:
    """Of every type."""
    told = _read("messages")
    said = _said(told["to_gateway"] + told["to_client"])
    assert set(said) == set(TYPES)
    _hold(said)


def test_what_is_sealed_inside_fits_its_schemas() -> None:
    """Heads, secrets, answers and key statements."""
    for case in _read("operations")["operations"]:
        for name in ("head", "secrets", "answer"):
            assert schema(name.capitalize()).is_valid(json.loads(case[name])), (case["op"], name)
    assert schema(KeyStatement.__name__).is_valid(json.loads(encode(given.statement())))
    assert schema(SweepReport.__name__).is_valid({"dry_run": True})


@pytest.mark.parametrize(
    "changed",
    [
        {"size": "26"},
        {"size": -1},
        {"client_id": given.OWNER.hex().upper()},
        {"client_id": given.OWNER.hex()[2:]},
        {"job_id": given.JOB.hex + "z"},
        {"op": "erase"},
        {"more": 1},
    ],
)
def test_a_malformed_head_does_not_fit(changed: Json) -> None:
    """As the codec would refuse it: lengths are of bytes, numbers are no texts, nothing unknown."""
    head = json.loads(encode(given.head()))
    assert schema(Head.__name__).is_valid(head)
    assert not schema(Head.__name__).is_valid(head | changed)


class Tap:
    """Everything that a client in this process says and hears."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listen until the test is over."""
        self.said: Said = defaultdict(list)
        self.exchanges: dict[str, set[tuple[str, str]]] = defaultdict(set)
        publish, decode = Publisher.publish, Delivery.decode

        async def publishing(
            publisher: Publisher, exchange: str, routing_key: str, message: Outgoing, *, mandatory: bool = True
        ) -> None:
            self.said[message.type].append((message.meta or b"").decode())
            self.exchanges[message.type].add((exchange, routing_key))
            assert mandatory
            await publish(publisher, exchange, routing_key, message, mandatory=mandatory)

        def decoding(delivery: Delivery, types: Any) -> Any:
            assert set(delivery.message.headers) == {META}
            self.said[delivery.kind].append(str(delivery.message.headers[META]))
            return decode(delivery, types)

        monkeypatch.setattr(Publisher, "publish", publishing)
        monkeypatch.setattr(Delivery, "decode", decoding)


async def test_a_real_conversation_fits_the_document(
    newcomer: Profile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every type of message, between our SDK and a real vault: inline, in pieces, asked for, refused."""
    tap, blob = Tap(monkeypatch), os.urandom(2_100_000)
    async with Vault.open(newcomer) as vault:
        small, large = await vault.dump(b"small"), await vault.dump(blob)
        assert (await vault.load(small), await vault.load(large)) == (b"small", blob)
        await vault.load_to(large, tmp_path / "large")
        job_id = await vault.submit(b"submitted")
        await vault.wait(job_id)
        await vault.status([job_id, uuid4()])
        with pytest.raises(PermanentError, match="operators_only"):
            await vault.sweep(dry_run=True)
    assert set(tap.said) == set(TYPES)
    _hold(tap.said)
    states = {job["state"] for meta in tap.said["answers.v1"] for job in json.loads(meta)["jobs"]}
    assert {"accepted", "running", "succeeded", "unknown"} <= states
    channels = DOCUMENT["channels"]
    assert tap.exchanges["request.v1"] == {(channels["requests"]["bindings"]["amqp"]["exchange"]["name"], "")}
    ((exchange, key),) = tap.exchanges["upload.v1"]
    assert exchange == channels["uploads"]["bindings"]["amqp"]["exchange"]["name"]
    assert key.startswith(channels["uploads"]["address"].format(client=newcomer.name, job=""))
