"""docs/asyncapi.json: what a client sends and receives, as AsyncAPI 3.0, from `contracts` alone.

Schemas are pydantic's own, in the encodings of the wire: bytes as hexadecimal text of the right length. Names, types
and arguments of exchanges and queues are `contracts.topology`'s. What the bytes of a body mean is docs/format.md's
affair, and in which order messages go docs/protocol.md's.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from contracts import topology
from contracts.codec import Meta, Model
from contracts.edge import (
    VERSION,
    Answer,
    Answers,
    Download,
    Head,
    ItemOutcome,
    KeyDirectory,
    KeysQuery,
    KeyStatement,
    Refusal,
    Request,
    Secrets,
    StatusQuery,
    Upload,
)
from contracts.limits import MAX_BLOB, MAX_EXPIRY, PIECE

Json = dict[str, Any]

BINDING: Final = "0.3.0"  # of the AMQP bindings, whose definition AsyncAPI versions apart
REPLY_QUEUE: Final = "amq.rabbitmq.reply-to"
CLIENT, JOB = "{client}", "{job}"  # parameters of an address
(EDGE,) = (vhost for vhost in topology.VHOSTS if vhost.name == topology.EDGE)

# What travels as JSON inside of bodies, sealed or signed; format.md says where.
INSIDE: Final[tuple[type[Model], ...]] = (Head, Secrets, Answer, ItemOutcome, KeyStatement)

BODIES: Final[dict[type[Meta], str]] = {
    KeysQuery: "Empty.",
    Request: "LP(head) LP(seal) LP(signature) and the inline payload (format.md §5); schemas Head and Secrets.",
    StatusQuery: "Empty.",
    Upload: "One piece of the sealed payload (format.md §3, §5).",
    KeyDirectory: "LP(statement) LP(signature) (format.md §4); schema KeyStatement.",
    Answers: "The sealed answers of the jobs whose `size` is not 0, in their order (format.md §7); schema Answer.",
    Refusal: "Empty.",
    Download: "One piece of the sealed result (format.md §3, §7); an export's outcomes have the schema ItemOutcome.",
}
PIECES: Final = (Upload, Download)
CORRELATED: Final = (KeysQuery, Request, StatusQuery, KeyDirectory, Refusal)


class WireSchema(GenerateJsonSchema):
    """JSON schemas of what is really on the wire."""

    def bytes_schema(self, schema: core_schema.BytesSchema) -> JsonSchemaValue:
        """Bytes are lower-case hexadecimal: two digits each."""
        least, most = schema.get("min_length", 0), schema.get("max_length", "")
        times = f"{{{least}}}" if least == most else f"{{{least},{most}}}"
        return {"type": "string", "pattern": f"^([0-9a-f]{{2}}){times}$"}

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Titles would only repeat the names."""
        return False


def asyncapi() -> str:
    """The whole document."""
    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


def document() -> Json:
    """The whole document, before it is text."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "trivault, as a client sees it",
            "version": str(VERSION),
            "description": "Generated from the code. docs/protocol.md says in which order messages go and what may be "
            "believed; docs/format.md says what the bytes of their bodies mean. JSON fields at their default are left "
            "out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/octet-stream",
        "servers": {"edge": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {meta.__name__: _message(meta) for meta in BODIES},
            "schemas": _schemas(),
            "securitySchemes": {
                "certificate": {
                    "type": "X509",
                    "description": "TLS 1.3 with a client certificate; SASL EXTERNAL. Its common name is the user.",
                }
            },
        },
    }


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/{kind}/{name}"}


def _server() -> Json:
    return {
        "host": "{host}:{port}",
        "protocol": "amqps",
        "protocolVersion": "0-9-1",
        "pathname": f"/{topology.EDGE}",
        "description": "The vhost is the path. Host and port are in the client's profile.",
        "variables": {"host": {"description": "of the broker"}, "port": {"default": "5671"}},
        "security": [_ref("components/securitySchemes", "certificate")],
    }


# --- channels -------------------------------------------------------------------------------------------------------


def _exchange(name: str) -> Json:
    (exchange,) = (each for each in EDGE.exchanges if each.name == name)
    told = {"name": name, "type": exchange.type, "durable": True, "autoDelete": False, "vhost": topology.EDGE}
    return {"amqp": {"is": "routingKey", "exchange": told, "bindingVersion": BINDING}}


def _queue(name: str, *, durable: bool, auto_delete: bool) -> Json:
    told = {"name": name, "durable": durable, "exclusive": False, "autoDelete": auto_delete, "vhost": topology.EDGE}
    return {"amqp": {"is": "queue", "queue": told, "bindingVersion": BINDING}}


def _channel(address: str | None, metas: Sequence[type[Meta]], description: str, bindings: Json, **more: Any) -> Json:
    return {
        "address": address,
        "messages": {meta.__name__: _ref("components/messages", meta.__name__) for meta in metas},
        "description": description,
        "servers": [_ref("servers", "edge")],
        "bindings": bindings,
        **more,
    }


def _channels() -> Json:
    (requests,) = (each for each in EDGE.queues if each.name == topology.GATEWAY_REQUESTS)
    parameters = {
        "client": {"description": "`name` in the profile"},
        "job": {"description": "the job id, as lower-case text with hyphens"},
    }
    up, down = topology.upload_queue(CLIENT, JOB), topology.download_queue(CLIENT, JOB)
    return {
        "requests": _channel(
            "",
            (KeysQuery, Request, StatusQuery),
            "To the gateway. The routing key means nothing.",
            _exchange(topology.REQUESTS),
            **{"x-queue": {"name": requests.name, "durable": True, "arguments": requests.arguments}},
        ),
        "replies": _channel(
            None,
            (KeyDirectory, Answers, Refusal),
            "RabbitMQ's direct reply-to: consume without acks, on the channel that publishes requests.",
            _queue(REPLY_QUEUE, durable=False, auto_delete=False),
        ),
        "uploads": _channel(
            up,
            (Upload,),
            "The payload of one job. The gateway declares the queue; the arguments are those of the largest payload.",
            _exchange(topology.UPLOADS),
            parameters=parameters,
            **{
                "x-queue": {
                    "name": up,
                    "durable": True,
                    "arguments": topology.upload_arguments(MAX_BLOB, 0, MAX_EXPIRY),
                }
            },
        ),
        "downloads": _channel(
            down,
            (Download,),
            "The large result of one job. A Cryptor declares the queue; the arguments are those of the largest record.",
            _queue(down, durable=True, auto_delete=True),
            parameters=parameters,
            **{"x-queue": {"name": down, "durable": True, "arguments": topology.download_arguments(MAX_BLOB)}},
        ),
    }


# --- operations -----------------------------------------------------------------------------------------------------


def _messages(channel: str, *metas: type[Meta]) -> list[Json]:
    return [_ref(f"channels/{channel}/messages", meta.__name__) for meta in metas]


def _send(channel: str, meta: type[Meta], summary: str, *replies: type[Meta]) -> Json:
    told = {
        "action": "send",
        "channel": _ref("channels", channel),
        "summary": summary,
        "messages": _messages(channel, meta),
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": BINDING}},
    }
    if replies:
        told["reply"] = {
            "address": {"location": "$message.header#/reply_to"},
            "channel": _ref("channels", "replies"),
            "messages": _messages("replies", *replies),
        }
    return told


def _operations() -> Json:
    return {
        "askForKeys": _send("requests", KeysQuery, "Get the Cryptor's public keys.", KeyDirectory, Refusal),
        "request": _send("requests", Request, "Ask for an operation; answered once or more.", Answers, Refusal),
        "askForStatus": _send("requests", StatusQuery, "Ask how jobs are.", Answers, Refusal),
        "upload": _send("uploads", Upload, "Send one piece of a payload."),
        "download": {
            "action": "receive",
            "channel": _ref("channels", "downloads"),
            "summary": "Receive one piece of a large result.",
            "messages": _messages("downloads", Download),
            "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING}},
        },
    }


# --- messages -------------------------------------------------------------------------------------------------------


def _message(meta: type[Meta]) -> Json:
    body: Json = {"type": "string", "format": "binary", "description": BODIES[meta]}
    if meta in PIECES:
        body["maxLength"] = PIECE
    told: Json = {
        "name": meta.TYPE,
        "summary": (meta.__doc__ or "").partition("\n")[0],
        "headers": {
            "type": "object",
            "required": ["meta"],
            "properties": {
                "meta": {
                    "type": "string",
                    "description": "JSON as text: an AMQP long string, and not a table.",
                    "contentMediaType": "application/json",
                    "contentSchema": _ref("components/schemas", meta.__name__),
                }
            },
        },
        "payload": body,
        "bindings": {"amqp": {"messageType": meta.TYPE, "bindingVersion": BINDING}},
    }
    if meta in CORRELATED:
        told["correlationId"] = {
            "location": "$message.header#/correlation_id",
            "description": "The AMQP property; of a request the job id.",
        }
    return told


def _schemas() -> Json:
    models: list[tuple[type[Model], JsonSchemaMode]] = [(model, "validation") for model in (*BODIES, *INSIDE)]
    _, told = models_json_schema(models, ref_template="#/components/schemas/{model}", schema_generator=WireSchema)
    schemas: Json = told["$defs"]
    return schemas
