"""The data format: the author's columns, glued together again, are the standard's message and nothing less."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.edge import SUITE
from contracts.limits import COBBLESTONE_CHUNK, COBBLESTONE_TAG, MIB, sealed_size
from contracts.lp import split_lp
from sealing.streams import SealError
from tests import cobblestone
from tests.vectors.material import DEK, EXTERNAL, MAP_SHARE, OWNER, fixed, fixed_uuid
from workers.cryptor.core.format import DATA_LABEL, DataDecryptor, DataEncryptor, data_context, encrypted_size
from workers.cryptor.core.keys import Dek

CONTEXT = data_context(EXTERNAL, OWNER, MAP_SHARE)
SIZES = [0, 1, 16_383, 16_384, 16_385, 262_144, 262_145, MIB - 1, MIB, MIB + 1]
BLOB = fixed("a blob", MIB + 1)


def _encrypt(data: bytes, dek: Dek = DEK) -> tuple[bytes, bytes, bytes]:
    """The columns: iv, auth_tag, encrypted_data."""
    record = DataEncryptor.begin(dek, CONTEXT)
    steps = [record.update(data[at : at + MIB]) for at in range(0, len(data), MIB)]
    return record.iv, record.auth_tag, b"".join([*steps, record.finish()])


def _decrypt(iv: bytes, auth_tag: bytes, encrypted: bytes, *, dek: Dek = DEK, context: bytes = CONTEXT) -> bytes:
    record = DataDecryptor(dek, context, iv, auth_tag)
    steps = [record.update(encrypted[at : at + MIB]) for at in range(0, len(encrypted), MIB)]
    return b"".join([*steps, record.finish()])


@pytest.mark.parametrize("size", SIZES)
def test_a_record_round_trips_and_any_implementation_of_the_standard_reads_it(size: int) -> None:
    """iv, auth_tag and encrypted_data, in this order, are a Cobblestone-256 message."""
    data = BLOB[:size]
    iv, auth_tag, encrypted = _encrypt(data)
    assert (len(iv), len(auth_tag), len(encrypted)) == (24, 32, encrypted_size(size))
    assert _decrypt(iv, auth_tag, encrypted) == data
    assert cobblestone.read(DEK.secret, CONTEXT, iv + auth_tag + encrypted) == data


def test_salt_and_commitment_are_known_before_the_data() -> None:
    """Both stores can be asked to begin before the first byte of plaintext has arrived."""
    record = DataEncryptor.begin(DEK, CONTEXT)
    assert cobblestone.derive(DEK.secret, record.iv, CONTEXT)[2] == record.auth_tag


def test_the_sizes_of_the_stores_follow_from_the_plaintext() -> None:
    """`encrypted_size` is `sealed_size` without salt and commitment."""
    assert encrypted_size(0) == COBBLESTONE_TAG
    assert encrypted_size(52_428_800) == sealed_size(52_428_800) - 56


@given(size=st.integers(min_value=0, max_value=70_000), at=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_flipped_bit_in_any_column_is_noticed(size: int, at: int, bit: int) -> None:
    """iv, auth_tag or encrypted_data, wherever."""
    glued = bytearray(b"".join(_encrypt(BLOB[:size])))
    glued[at % len(glued)] ^= 1 << bit
    with pytest.raises(SealError):
        _decrypt(bytes(glued[:24]), bytes(glued[24:56]), bytes(glued[56:]))


def test_a_wrong_commitment_is_noticed_before_any_data() -> None:
    """The auth_tag of another object is refused at once, not after 50 MiB."""
    iv, _, _ = _encrypt(b"blob")
    _, auth_tag, _ = _encrypt(b"blob")
    with pytest.raises(SealError):
        DataDecryptor(DEK, CONTEXT, iv, auth_tag)


def test_pieces_of_two_records_do_not_mix() -> None:
    """One DEK for both, which never happens: the salts alone keep them apart."""
    one, other = _encrypt(BLOB[:40_000]), _encrypt(BLOB[:40_000])
    mixed = [(other[0], *one[1:]), (one[0], other[1], one[2]), (*one[:2], other[2])]
    chunk = COBBLESTONE_CHUNK + COBBLESTONE_TAG
    mixed.append((*one[:2], one[2][:chunk] + other[2][chunk : 2 * chunk] + one[2][2 * chunk :]))
    for iv, auth_tag, encrypted in mixed:
        with pytest.raises(SealError):
            _decrypt(iv, auth_tag, encrypted)


@pytest.mark.parametrize("keep", [0, 1, 15, 16, 16_399, 16_400, 16_401, 16_416, 32_800, -1])
def test_a_truncated_object_is_noticed(keep: int) -> None:
    """At chunk borders too."""
    iv, auth_tag, encrypted = _encrypt(BLOB[:40_000])
    with pytest.raises(SealError):
        _decrypt(iv, auth_tag, encrypted[:keep])


@pytest.mark.parametrize(
    "context",
    [
        data_context(fixed_uuid("another record"), OWNER, MAP_SHARE),
        data_context(EXTERNAL, fixed("another owner", 16), MAP_SHARE),
        data_context(EXTERNAL, OWNER, fixed("another share")),
        data_context(EXTERNAL, OWNER, b""),
        b"",
    ],
)
def test_everything_in_the_context_is_needed(context: bytes) -> None:
    """Without the MapStore row's share, or under another record's name, DEK, iv and object are worth nothing."""
    with pytest.raises(SealError):
        _decrypt(*_encrypt(b"blob"), context=context)


def test_another_dek_decrypts_nothing() -> None:
    """Nor is it told apart from other damage."""
    with pytest.raises(SealError):
        _decrypt(*_encrypt(b"blob"), dek=Dek(fixed("another dek")))


def test_a_context_has_these_fields() -> None:
    """Label, suite, record, owner, share: each length-prefixed, the uuid as its 16 raw bytes."""
    assert split_lp(CONTEXT, 5) == [DATA_LABEL, bytes([SUITE]), EXTERNAL.bytes, OWNER, MAP_SHARE]


def test_a_record_under_way_shows_no_key() -> None:
    """Neither the DEK's repr nor the encryptor's contains it."""
    shown = repr(DEK) + repr(DataEncryptor.begin(DEK, CONTEXT))
    assert DEK.secret.hex() not in shown
    assert repr(DEK.secret)[2:-1] not in shown
