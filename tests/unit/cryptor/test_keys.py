"""The keyring: wrapping, rewrapping, the MAC of map rows, and a key file that is never quoted."""

import json
import traceback
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from contracts.codec import encode, parse
from contracts.failures import FailureCode, PermanentError
from contracts.stores import Row, RowState
from sealing.streams import SealError
from tests.vectors.material import DEK, KEYRING, OWNER, aborted_row, fixed, fixed_uuid, live_row
from workers.cryptor.core.keys import Dek, Keyring, draw_attempt, draw_share, draw_uuid

IV = fixed("iv", 24)
OLD, CURRENT = fixed("kek 1 id", 4), fixed("kek 2 id", 4)


def _ring(current: bytes = CURRENT, **changed: Any) -> Keyring:
    told: dict[str, Any] = {
        "current": current,
        "keks": KEYRING.keks,
        "map_mac_current": KEYRING.map_mac_current,
        "map_mac_keys": KEYRING.map_mac_keys,
    }
    return Keyring(**(told | changed))


def test_a_dek_is_wrapped_and_unwrapped() -> None:
    """Kek id in front, 4 bytes; then a stream of one short chunk: 108 bytes in all."""
    wrapped = KEYRING.wrap(DEK, OWNER, IV)
    assert (wrapped[:4], len(wrapped)) == (CURRENT, 108)
    assert KEYRING.unwrap(wrapped, OWNER, IV) == DEK
    assert DEK.secret not in wrapped


def test_the_same_dek_wrapped_twice_looks_different() -> None:
    """Two rows do not show that they hold one key."""
    assert KEYRING.wrap(DEK, OWNER, IV) != KEYRING.wrap(DEK, OWNER, IV)


def test_a_row_can_be_rewrapped_from_the_key_store_alone() -> None:
    """Owner, iv and wrapped key are all it takes, and the old KEK may go afterwards."""
    wrapped = _ring(OLD).wrap(DEK, OWNER, IV)
    rewrapped = KEYRING.wrap(KEYRING.unwrap(wrapped, OWNER, IV), OWNER, IV)
    only_new = _ring(keks={CURRENT: KEYRING.keks[CURRENT]})
    assert only_new.unwrap(rewrapped, OWNER, IV) == DEK
    with pytest.raises(PermanentError, match="unknown_kek"):
        only_new.unwrap(wrapped, OWNER, IV)


def test_a_relabelled_row_does_not_open_under_the_other_kek() -> None:
    """The kek id in front is bound: there is no trying of keys."""
    wrapped = KEYRING.wrap(DEK, OWNER, IV)
    with pytest.raises(SealError):
        KEYRING.unwrap(OLD + wrapped[4:], OWNER, IV)
    same_key_twice = _ring(keks={OLD: KEYRING.keks[CURRENT], CURRENT: KEYRING.keks[CURRENT]})
    with pytest.raises(SealError):
        same_key_twice.unwrap(OLD + wrapped[4:], OWNER, IV)


@pytest.mark.parametrize(("owner", "iv"), [(fixed("another owner", 16), IV), (OWNER, fixed("another iv", 24))])
def test_a_wrapped_dek_is_bound_to_owner_and_iv(owner: bytes, iv: bytes) -> None:
    """A row moved to another owner, or whose iv was exchanged, does not unwrap."""
    with pytest.raises(SealError):
        KEYRING.unwrap(KEYRING.wrap(DEK, OWNER, IV), owner, iv)


def test_a_damaged_row_does_not_unwrap() -> None:
    """Every byte behind the kek id flipped; cut anywhere; extended."""
    wrapped = KEYRING.wrap(DEK, OWNER, IV)
    flipped = [wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :] for at in range(4, len(wrapped))]
    for bad in [*flipped, *(wrapped[:length] for length in range(4, len(wrapped))), wrapped + b"\0"]:
        with pytest.raises(SealError):
            KEYRING.unwrap(bad, OWNER, IV)


@pytest.mark.parametrize("wrapped", [b"", b"\1", fixed("nobody's kek", 4), fixed("nobody's row", 108)])
def test_an_unknown_kek_is_said_to_be_unknown(wrapped: bytes) -> None:
    """A missing KEK is the operator's to find: its reason differs from damage."""
    with pytest.raises(PermanentError) as caught:
        KEYRING.unwrap(wrapped, OWNER, IV)
    assert (caught.value.code, caught.value.reason) == (FailureCode.INTEGRITY_FAILED, "unknown_kek")


ROWS = [live_row(), aborted_row()]
OTHERS: dict[str, Any] = {
    "owner": fixed("another owner", 16),
    "job_id": fixed_uuid("another job"),
    "item": 1,
    "state": None,  # whichever it is not
    "external_uuid": fixed_uuid("another record"),
    "data_store_uuid": fixed_uuid("another object"),
    "key_store_uuid": fixed_uuid("another key"),
    "map_share": fixed("another share"),
    "request_tag": fixed("another tag"),
    "size": 2**62,
    "suite": 2,
    "mac_key": 1,
    "mac": fixed("another mac"),
}


def test_every_field_of_a_row_has_its_attack() -> None:
    """A field that is added to `Row` has to be added to the MAC, and here."""
    assert set(OTHERS) == set(Row.model_fields)


@pytest.mark.parametrize("row", ROWS, ids=["live", "aborted"])
@pytest.mark.parametrize("field", OTHERS)
def test_a_row_with_one_field_changed_is_refused(row: Row, field: str) -> None:
    """MapStore's owner can change nothing: not a bit of any field, not the MAC key's number."""
    signed = KEYRING.sign_row(row)
    KEYRING.verify_row(signed)
    other = RowState.ABORTED if row.state is RowState.LIVE else RowState.LIVE
    changed = signed.model_copy(update={field: other if field == "state" else OTHERS[field]})
    assert changed != signed
    with pytest.raises(PermanentError) as caught:
        KEYRING.verify_row(changed)
    assert (caught.value.code, caught.value.reason) == (FailureCode.INTEGRITY_FAILED, "map_row")


@pytest.mark.parametrize("field", ["external_uuid", "data_store_uuid", "key_store_uuid", "map_share"])
def test_a_row_with_a_field_removed_is_refused(field: str) -> None:
    """An id or share that is absent is not the same as one that is there."""
    with pytest.raises(PermanentError, match="map_row"):
        KEYRING.verify_row(KEYRING.sign_row(live_row()).model_copy(update={field: None}))


def test_ids_of_a_row_cannot_be_exchanged() -> None:
    """Each id has its own place in the MAC."""
    row = KEYRING.sign_row(live_row())
    swapped = row.model_copy(update={"data_store_uuid": row.key_store_uuid, "key_store_uuid": row.data_store_uuid})
    with pytest.raises(PermanentError, match="map_row"):
        KEYRING.verify_row(swapped)


def test_a_row_signed_under_an_older_mac_key_is_still_believed() -> None:
    """Rotation of the MAC key leaves old rows readable, as long as the key is kept."""
    old = _ring(map_mac_current=1).sign_row(live_row())
    assert old.mac_key == 1
    KEYRING.verify_row(old)
    with pytest.raises(PermanentError, match="unknown_mac_key"):
        _ring(map_mac_keys={2: KEYRING.map_mac_keys[2]}).verify_row(old)


def test_a_row_travels_unchanged() -> None:
    """What MapStore hands back verifies after JSON and back."""
    for row in ROWS:
        KEYRING.verify_row(parse(Row, encode(KEYRING.sign_row(row))))


def test_a_size_that_no_mac_can_hold_is_refused_as_malformed() -> None:
    """A hostile MapStore cannot turn a row into an overflow: the model refuses it first."""
    told = encode(KEYRING.sign_row(live_row())).replace(b'"size":26', b'"size":18446744073709551616')
    with pytest.raises(PermanentError, match="malformed_size"):
        parse(Row, told)


FILE: dict[str, Any] = {
    "current": "00000001",
    "keks": {"00000001": "aa" * 32},
    "map_mac_keys": {"1": "bb" * 32},
    "map_mac_current": 1,
}


def test_a_keyring_file_is_read(tmp_path: Path) -> None:
    """As provisioning writes it."""
    file = tmp_path / "keyring.json"
    file.write_text(json.dumps(FILE))
    ring = Keyring.from_file(file)
    assert ring.current == bytes([0, 0, 0, 1])
    assert ring.keks == {ring.current: b"\xaa" * 32}
    assert ring.map_mac_keys == {1: b"\xbb" * 32}


CANARY = "ca9a12"
BAD_FILES = {
    "no JSON": f'{{"current": {CANARY}',
    "no object": f'["{CANARY}"]',
    "no keks": json.dumps({"current": CANARY}),
    "keks are no object": json.dumps(FILE | {"keks": CANARY}),
    "no hexadecimal": json.dumps(FILE | {"keks": {"00000001": CANARY + "zz"}}),
    "a short key": json.dumps(FILE | {"keks": {"00000001": CANARY}}),
    "a short kek id": json.dumps(FILE | {"current": CANARY, "keks": {CANARY: "aa" * 32}}),
    "current unknown": json.dumps(FILE | {"current": CANARY + "00"}),
    "current a number": json.dumps(FILE | {"current": 1, "note": CANARY}),
    "mac key number no number": json.dumps(FILE | {"map_mac_keys": {CANARY: "bb" * 32}}),
    "mac key number negative": json.dumps(
        FILE | {"map_mac_current": -1, "map_mac_keys": {"-1": "bb" * 32}, "note": CANARY}
    ),
    "mac key number huge": json.dumps(FILE | {"map_mac_keys": {"1": "bb" * 32, str(2**31): "bb" * 32}, "note": CANARY}),
    "current mac key unknown": json.dumps(FILE | {"map_mac_current": 2, "note": CANARY}),
    "current mac key infinite": json.dumps(FILE | {"map_mac_current": float("inf"), "note": CANARY}),
    "empty": "",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_keyring_file_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    """The service stops and names the file; what stands in it stays there, in the traceback too."""
    file = tmp_path / "keyring.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"keyring\.json") as caught:
        Keyring.from_file(file)
    shown = "".join(traceback.format_exception(caught.value))
    assert CANARY not in shown
    assert "aa" * 32 not in shown


def test_a_keyring_shows_no_key() -> None:
    """Its repr names which keys are current and no key."""
    shown = repr(KEYRING) + str(KEYRING)
    for key in [*KEYRING.keks.values(), *KEYRING.map_mac_keys.values()]:
        assert key.hex() not in shown
        assert repr(key)[2:-1] not in shown


def test_what_is_drawn_is_never_drawn_again() -> None:
    """Keys, shares, ids and attempts have their full lengths and do not repeat."""
    assert len({Dek.draw().secret for _ in range(100)}) == 100
    assert len({draw_share() for _ in range(100)}) == 100
    assert {len(Dek.draw().secret), len(draw_share())} == {32}
    assert len(draw_attempt()) == 16
    drawn: set[UUID] = {draw_uuid() for _ in range(100)}
    assert len(drawn) == 100
    assert {each.version for each in drawn} == {4}
