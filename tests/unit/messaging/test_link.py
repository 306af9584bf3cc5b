"""The link seal: what a broker relays opens at its addressee, for its call, or nowhere."""

import json
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.limits import MAX_BODY, PART
from contracts.lp import lp
from messaging.link import LABEL, Direction, LinkKeys, LinkSealError
from sealing.streams import seal as seal_stream
from tests import cobblestone
from tests.vectors.material import LINK, NOW, fixed

TYPE, CALL = "keystore.dump.v1", "a5e1"
META, BODY = b'{"items":[]}', b"wrapped keys"


async def _sealed(link: LinkKeys = LINK, deadline: float = NOW) -> bytes:
    return await link.seal(Direction.REQUEST, TYPE, CALL, deadline, META, [BODY])


async def test_meta_body_and_deadline_arrive() -> None:
    """As one unit, for the addressee of this call."""
    opened = await LINK.open(Direction.REQUEST, TYPE, CALL, await _sealed())
    assert (opened.meta, bytes(opened.body), opened.deadline) == (META, BODY, NOW)


@pytest.mark.parametrize("deadline", [0, 0.001, NOW + 0.25, NOW + 0.9996, 2**40])
async def test_a_deadline_keeps_its_milliseconds(deadline: float) -> None:
    """Rounded to the next one; the whole range of times that the protocol knows."""
    opened = await LINK.open(Direction.REQUEST, TYPE, CALL, await _sealed(deadline=deadline))
    assert opened.deadline == pytest.approx(deadline, abs=0.000501)


async def test_a_unit_has_these_bytes() -> None:
    """Epoch, then a stream of the standard over deadline, LP(meta) and body (docs/format.md §8)."""
    sealed = await _sealed()
    assert sealed[:4] == bytes([0, 0, 0, 2])
    context = lp(LABEL, b"cryptor-keystore", sealed[:4], b"request", TYPE.encode(), CALL.encode())
    plain = cobblestone.read(LINK.epochs[2], context, sealed[4:])
    assert plain == (NOW * 1000).to_bytes(8, "big") + lp(META) + BODY


async def test_a_broker_sees_nothing_of_it() -> None:
    """Neither meta nor body, whatever their length."""
    sealed = await _sealed()
    assert META not in sealed
    assert BODY not in sealed


@pytest.mark.parametrize("direction", set(Direction) - {Direction.REQUEST})
async def test_another_direction_does_not_open(direction: Direction) -> None:
    """A request is not reflected as a reply, nor a job as an event."""
    with pytest.raises(LinkSealError):
        await LINK.open(direction, TYPE, CALL, await _sealed())


@pytest.mark.parametrize(
    ("type_", "correlation_id"),
    [("keystore.erase.v1", CALL), ("", CALL), (TYPE, "a5e2"), (TYPE, ""), (TYPE + CALL[:1], CALL[1:])],
)
async def test_another_type_or_call_does_not_open(type_: str, correlation_id: str) -> None:
    """A dump is not delivered as an erase, nor the reply to one call as another's; no border can be moved."""
    with pytest.raises(LinkSealError):
        await LINK.open(Direction.REQUEST, type_, correlation_id, await _sealed())


async def test_another_link_does_not_open_even_with_the_same_key() -> None:
    """Were two links to share a key by mistake, their messages would still be apart."""
    other = replace(LINK, link="cryptor-mapstore")
    with pytest.raises(LinkSealError):
        await other.open(Direction.REQUEST, TYPE, CALL, await _sealed())


async def test_another_key_does_not_open() -> None:
    """Same link, same epoch, another file."""
    other = replace(LINK, epochs={2: fixed("another link key")})
    with pytest.raises(LinkSealError):
        await other.open(Direction.REQUEST, TYPE, CALL, await _sealed())


async def test_an_old_epoch_opens_as_long_as_its_key_is_there() -> None:
    """Rotation: both ends learn the new key, then seal with it, then forget the old one."""
    old = await _sealed(replace(LINK, current=1))
    assert (await LINK.open(Direction.REQUEST, TYPE, CALL, old)).meta == META
    forgetful = replace(LINK, epochs={2: LINK.epochs[2]})
    with pytest.raises(LinkSealError):
        await forgetful.open(Direction.REQUEST, TYPE, CALL, old)


async def test_a_relabelled_epoch_does_not_open() -> None:
    """The epoch in front is bound, even if two epochs had one key."""
    sealed = await _sealed()
    same_key_twice = replace(LINK, epochs={1: LINK.epochs[2], 2: LINK.epochs[2]})
    for link in (LINK, same_key_twice):
        with pytest.raises(LinkSealError):
            await link.open(Direction.REQUEST, TYPE, CALL, bytes([0, 0, 0, 1]) + sealed[4:])


async def test_a_damaged_unit_does_not_open() -> None:
    """Any byte flipped, cut anywhere, extended, empty."""
    sealed = await _sealed()
    flipped = [sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :] for at in range(len(sealed))]
    for bad in [*flipped, *(sealed[:length] for length in range(len(sealed))), sealed + b"\0"]:
        with pytest.raises(LinkSealError):
            await LINK.open(Direction.REQUEST, TYPE, CALL, bad)


@pytest.mark.parametrize("plain", [b"", bytes(7), bytes(8), bytes(8) + b"\0\0\0\x05meta"])
async def test_sealed_nonsense_does_not_open(plain: bytes) -> None:
    """A peer with a bug is treated as a stranger: a deadline or a meta that is not whole."""
    epoch = bytes([0, 0, 0, 2])
    context = lp(LABEL, b"cryptor-keystore", epoch, b"request", TYPE.encode(), CALL.encode())
    with pytest.raises(LinkSealError):
        await LINK.open(Direction.REQUEST, TYPE, CALL, epoch + seal_stream(LINK.epochs[2], context, plain))


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, PART])
async def test_long_bodies_arrive_whole(size: int) -> None:
    """Pieces of any length, up to a whole part, in steps of 1 MiB."""
    body = fixed("body", size)
    pieces: list[bytes | memoryview] = [
        body[: size // 3],
        memoryview(body)[size // 3 : size // 2],
        b"",
        body[size // 2 :],
    ]
    sealed = await LINK.seal(Direction.REPLY, TYPE, CALL, NOW, META, pieces)
    assert (await LINK.open(Direction.REPLY, TYPE, CALL, sealed)).body == body


async def test_what_no_peer_would_send_is_refused_by_its_size() -> None:
    """Before any work is spent on it."""
    with pytest.raises(LinkSealError):
        await LINK.open(Direction.REQUEST, TYPE, CALL, bytes([0, 0, 0, 2]) + bytes(2 * MAX_BODY))


def test_keys_and_contents_do_not_show() -> None:
    """Neither a link's keys nor what was opened, in a repr."""
    shown = repr(LINK) + str(LINK)
    for key in LINK.epochs.values():
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown


async def test_what_was_opened_does_not_show() -> None:
    """A logged `Opened` says when, not what."""
    shown = repr(await LINK.open(Direction.REQUEST, TYPE, CALL, await _sealed()))
    assert "items" not in shown
    assert BODY.decode() not in shown


FILE: dict[str, Any] = {"link": "cryptor-keystore", "current": 1, "epochs": {"1": "aa" * 32}}
CANARY = "ca9a12"
BAD_FILES = {
    "no JSON": f'{{"link": {CANARY}',
    "no object": f'["{CANARY}"]',
    "no epochs": json.dumps({"link": CANARY, "current": 1}),
    "epochs are no object": json.dumps(FILE | {"epochs": CANARY}),
    "epoch no number": json.dumps(FILE | {"epochs": {CANARY: "aa" * 32}}),
    "epoch zero": json.dumps({"link": CANARY, "current": 0, "epochs": {"0": "aa" * 32}}),
    "epoch negative": json.dumps({"link": CANARY, "current": -1, "epochs": {"-1": "aa" * 32}}),
    "epoch beyond 32 bits": json.dumps(FILE | {"epochs": {"1": "aa" * 32, str(2**32): "aa" * 32}, "note": CANARY}),
    "no hexadecimal": json.dumps(FILE | {"epochs": {"1": CANARY + "zz"}}),
    "a short key": json.dumps(FILE | {"epochs": {"1": CANARY}}),
    "current unknown": json.dumps(FILE | {"current": 2, "note": CANARY}),
    "current infinite": json.dumps(FILE | {"current": float("inf"), "note": CANARY}),
    "empty": "",
}


def test_a_key_file_is_read(tmp_path: Path) -> None:
    """As provisioning writes it."""
    file = tmp_path / "link.json"
    file.write_text(json.dumps(FILE))
    assert LinkKeys.from_file(file) == LinkKeys("cryptor-keystore", 1, {1: b"\xaa" * 32})


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_key_file_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """The service stops and names the file; what stands in it stays there, in the traceback too."""
    file = tmp_path / "link.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"link\.json") as caught:
        LinkKeys.from_file(file)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "aa" * 32 not in shown
