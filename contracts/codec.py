"""The one codec: typed meta <-> JSON bytes. It refuses what it does not know.

A message is AMQP properties, one meta (the JSON of a `Meta` model) and a raw body. Which types a receiver accepts is
its own closed list; everything else (unknown type or version, extra fields, oversize, malformed) is a `NotOursError`,
whose text never quotes the message. The codec knows neither AMQP nor encryption.
"""

import re
from collections.abc import Iterable
from typing import Annotated, ClassVar, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.failures import NotOursError
from contracts.limits import MAX_BODY, MAX_META

Bytes16 = Annotated[bytes, Field(min_length=16, max_length=16)]
Bytes24 = Annotated[bytes, Field(min_length=24, max_length=24)]
Bytes32 = Annotated[bytes, Field(min_length=32, max_length=32)]
Size = Annotated[int, Field(ge=0, lt=2**63)]  # 8 bytes in every context and MAC, bigint in every table

_REASONS: Final = re.compile(r"[^a-z_]+")


class Model(BaseModel):
    """A frozen value object; strict types, no unknown fields, bytes as lower-case hex in JSON."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, ser_json_bytes="hex", val_json_bytes="hex", hide_input_in_errors=True
    )


class Meta(Model):
    """A model that is a message of its own; `TYPE` is its `<name>.v<version>`."""

    TYPE: ClassVar[str]


M = TypeVar("M", bound=Model)
T = TypeVar("T", bound=Meta)


def encode(model: Model) -> bytes:
    """Serialise a model as compact JSON, leaving out fields at their default."""
    return model.__pydantic_serializer__.to_json(model, exclude_defaults=True)


def parse(model: type[M], data: bytes | memoryview) -> M:
    """Parse JSON into a model.

    Raises:
        NotOursError: oversize (`oversize_meta`) or not of this model (`malformed_<field>`).
    """
    if len(data) > MAX_META:
        raise NotOursError("oversize_meta")
    try:
        return model.model_validate_json(bytes(data))
    except ValidationError as error:
        raise NotOursError(_reason(error)) from None  # pydantic's text could quote the message


def _reason(error: ValidationError) -> str:
    """Name the first field that failed, or nothing if even its name is the sender's own."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "extra_forbidden":
        return "unknown_field"
    field = _REASONS.sub("", str(first["loc"][0])) if first["loc"] else ""
    return f"malformed_{field}" if field else "malformed"


def decode(types: Iterable[type[T]], type_: str | None, meta: bytes | memoryview, body_size: int) -> T:
    """Decode a received message into one of `types`.

    Raises:
        NotOursError: `unknown_type`, `oversize_body`, or what `parse` refuses.
    """
    model = next((model for model in types if type_ == model.TYPE), None)
    if model is None:
        raise NotOursError("unknown_type")
    if body_size > MAX_BODY:
        raise NotOursError("oversize_body")
    return parse(model, meta)


def cut(body: bytes | memoryview, sizes: Iterable[int]) -> list[memoryview]:
    """Cut a body into consecutive slices that must cover it exactly.

    Raises:
        NotOursError: `body_size`, if the sizes do not add up to the body.
    """
    view, slices, at = memoryview(body), [], 0
    for size in sizes:
        slices.append(view[at : at + size])
        at += size
    if at != len(view):
        raise NotOursError("body_size")
    return slices
