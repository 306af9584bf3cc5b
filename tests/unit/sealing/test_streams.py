"""Sealed streams: whatever is done to one, it opens as what was sealed or not at all."""

import secrets
from itertools import pairwise

import pytest
from cryptography.exceptions import AlreadyFinalized
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.limits import COBBLESTONE_CHUNK, COBBLESTONE_HEADER, COBBLESTONE_TAG, MIB, PIECE, pieces, sealed_size
from sealing.streams import Opener, Recutter, Sealer, SealError, open_sealed, seal
from tests import cobblestone

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
CONTEXT = b"a context"
EDGES = [0, 1, 16_383, 16_384, 16_385, 262_144, 262_145, MIB - 1, MIB, MIB + 1]
SEALED_CHUNK = COBBLESTONE_CHUNK + COBBLESTONE_TAG
RANDOM = secrets.token_bytes(2 * MIB)

cuts = st.lists(st.integers(min_value=0, max_value=80_000), max_size=12)


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut `data` at these places (modulo its length), in pieces of at most 1 MiB, empty ones included."""
    length = len(data)
    places = sorted([0, length, *(place % (length + 1) for place in at), *range(0, length, PIECE)])
    return [data[start:end] for start, end in pairwise(places)]


def _seal(data: bytes, at: list[int], context: bytes = CONTEXT) -> bytes:
    sealer = Sealer(KEY, context)
    return b"".join([*map(sealer.update, _cut(data, at)), sealer.finish()])


def _open(sealed: bytes, at: list[int]) -> bytes:
    opener = Opener(KEY, CONTEXT)
    return b"".join([*map(opener.update, _cut(sealed, at)), opener.finish()])


@pytest.mark.parametrize("size", EDGES)
def test_what_is_sealed_opens_again_and_has_the_computed_size(size: int) -> None:
    """Every size at which something changes: same bytes back, `sealed_size` and `pieces` as the library has them."""
    data = RANDOM[:size]
    sealed = _seal(data, [])
    assert len(sealed) == sealed_size(size)
    assert len(_cut(sealed, [])) == pieces(size) + 1  # `_cut` begins with an empty piece
    assert open_sealed(KEY, CONTEXT, sealed) == data


@given(size=st.sampled_from(EDGES[:7]), sealing=cuts, opening=cuts)
@settings(max_examples=60, deadline=None)
def test_how_a_stream_is_cut_does_not_matter(size: int, sealing: list[int], opening: list[int]) -> None:
    """Any chunking in, any other chunking out."""
    data = RANDOM[:size]
    assert _open(_seal(data, sealing), opening) == data


@pytest.mark.parametrize("size", EDGES)
def test_another_implementation_of_the_standard_reads_and_writes_it(size: int) -> None:
    """A reader and a writer made from the standard's text agree with the library in both directions."""
    data = RANDOM[:size]
    assert cobblestone.read(KEY, CONTEXT, _seal(data, [])) == data
    assert open_sealed(KEY, CONTEXT, cobblestone.write(KEY, CONTEXT, bytes(24), data)) == data


def _places(sealed: bytes) -> list[int]:
    """A byte of every class: salt, commitment, body and tag of the first, a middle and the last chunk."""
    first, last = COBBLESTONE_HEADER, COBBLESTONE_HEADER + 2 * SEALED_CHUNK
    chunks = [first, first + 100, first + SEALED_CHUNK - 1, first + SEALED_CHUNK, last, last + 2, len(sealed) - 1]
    return [0, 23, 24, 55, *chunks]


def test_every_flipped_bit_is_noticed() -> None:
    """A bit of each field class, in header and chunks, for both readers."""
    sealed = _seal(RANDOM[: 2 * COBBLESTONE_CHUNK + 3], [])
    for at in _places(sealed):
        for bit in (0x01, 0x80):
            bad = bytearray(sealed)
            bad[at] ^= bit
            with pytest.raises(SealError):
                open_sealed(KEY, CONTEXT, bad)


@given(at=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
@settings(max_examples=100, deadline=None)
def test_any_flipped_bit_is_noticed(at: int, bit: int) -> None:
    """Anywhere at all."""
    sealed = bytearray(seal(KEY, CONTEXT, RANDOM[:20_000]))
    sealed[at % len(sealed)] ^= 1 << bit
    with pytest.raises(SealError):
        open_sealed(KEY, CONTEXT, sealed)


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 32_768, 40_000])
def test_a_truncated_stream_does_not_open(size: int) -> None:
    """Cut anywhere, chunk borders included: what is left is never taken for a shorter message."""
    sealed = _seal(RANDOM[:size], [])
    borders = range(COBBLESTONE_HEADER, len(sealed), SEALED_CHUNK)
    lengths = {0, 1, 23, 24, 55, len(sealed) - 1, len(sealed) - 16, *borders, *(border + 16 for border in borders)}
    for length in lengths & set(range(len(sealed))):
        with pytest.raises(SealError):
            open_sealed(KEY, CONTEXT, sealed[:length])


def test_chunks_cannot_be_reordered_repeated_left_out_or_added() -> None:
    """Chunks are whole and authentic each; only their places are wrong."""
    sealed = _seal(RANDOM[: 3 * COBBLESTONE_CHUNK + 9], [])
    head, body = sealed[:COBBLESTONE_HEADER], sealed[COBBLESTONE_HEADER:]
    one, two, three, end = (body[at : at + SEALED_CHUNK] for at in range(0, len(body), SEALED_CHUNK))
    arrangements = [
        [two, one, three, end],
        [one, one, two, three, end],
        [one, three, end],
        [one, two, three],
        [one, two, three, end, end],
        [one, two, three, three, end],
        [end],
        [],
        [one, two, three, end, b"\0"],
        [one, two, three, end, bytes(SEALED_CHUNK)],
    ]
    for arrangement in arrangements:
        with pytest.raises(SealError):
            open_sealed(KEY, CONTEXT, b"".join([head, *arrangement]))


def test_chunks_of_another_stream_do_not_fit() -> None:
    """Two streams of one key and one context still have nothing in common: each has its own salt."""
    first, second = (_seal(RANDOM[:40_000], []) for _ in range(2))
    middle = slice(COBBLESTONE_HEADER + SEALED_CHUNK, COBBLESTONE_HEADER + 2 * SEALED_CHUNK)
    spliced = first[: middle.start] + second[middle] + first[middle.stop :]
    with pytest.raises(SealError):
        open_sealed(KEY, CONTEXT, spliced)
    with pytest.raises(SealError):
        open_sealed(KEY, CONTEXT, second[:COBBLESTONE_HEADER] + first[COBBLESTONE_HEADER:])


@pytest.mark.parametrize(("key", "context"), [(OTHER_KEY, CONTEXT), (KEY, b"a contexu"), (KEY, b"")])
def test_another_key_or_context_opens_nothing(key: bytes, context: bytes) -> None:
    """All refusals are the same error, with the same text: it is no oracle."""
    with pytest.raises(SealError) as caught:
        open_sealed(key, context, seal(KEY, CONTEXT, b"blob"))
    assert str(caught.value) == "integrity_failed: seal"


def test_a_stream_that_failed_gives_nothing_more() -> None:
    """After a bad chunk the opener is dead: good chunks behind it do not come out, and it cannot be finished."""
    sealed = bytearray(_seal(RANDOM[:40_000], []))
    sealed[COBBLESTONE_HEADER] ^= 1
    opener = Opener(KEY, CONTEXT)
    with pytest.raises(SealError):
        opener.update(sealed[: COBBLESTONE_HEADER + SEALED_CHUNK])
    with pytest.raises(AlreadyFinalized):
        opener.update(sealed[COBBLESTONE_HEADER + SEALED_CHUNK :])
    with pytest.raises(AlreadyFinalized):
        opener.finish()


def test_plaintext_is_provisional_until_the_end_verifies() -> None:
    """The trap that the callers must know: verified chunks come out before the truncation is noticed."""
    sealed = _seal(RANDOM[:40_000], [])
    opener = Opener(KEY, CONTEXT)
    provisional = opener.update(sealed[: COBBLESTONE_HEADER + 2 * SEALED_CHUNK])
    assert provisional == RANDOM[: 2 * COBBLESTONE_CHUNK]
    with pytest.raises(SealError):
        opener.finish()


def test_a_step_is_bounded() -> None:
    """One synchronous call never works on more than 1 MiB."""
    with pytest.raises(ValueError, match="1 MiB"):
        Sealer(KEY, CONTEXT).update(bytes(MIB + 1))
    with pytest.raises(ValueError, match="1 MiB"):
        Opener(KEY, CONTEXT).update(bytes(MIB + 1))


@given(size=st.integers(min_value=1, max_value=100), parts=st.lists(st.binary(max_size=300), max_size=20))
def test_recutting_keeps_the_bytes_and_makes_equal_pieces(size: int, parts: list[bytes]) -> None:
    """Nothing lost, nothing added: every piece but the last has the size, and the last is shorter."""
    recutter = Recutter(size)
    cut = [piece for part in parts for piece in recutter.feed(part)]
    rest = recutter.rest()
    assert b"".join([*cut, rest]) == b"".join(parts)
    assert {len(piece) for piece in cut} <= {size}
    assert len(rest) < size


def test_a_recut_piece_is_ready_as_soon_as_it_can_be() -> None:
    """A piece is not held back once its bytes are there."""
    recutter = Recutter(4)
    assert list(recutter.feed(b"abc")) == []
    assert list(recutter.feed(b"defghi")) == [b"abcd", b"efgh"]
    assert list(recutter.feed(b"jkl")) == [b"ijkl"]
    assert recutter.rest() == b""


def _committing_to_nothing() -> tuple[bytes, bytes, bytes]:
    """Two keys and one plain AES-256-GCM body that authenticates under both: what key commitment is for.

    GHASH is linear in the ciphertext: one free block is solved for so that both tags are equal.
    """
    first, second, nonce = bytes(32), bytes([1]) * 32, bytes(12)
    body = _collide(first, second, nonce, b"sixteen bytes ok")
    return first, second, nonce + body


def _times(left: int, right: int) -> int:
    """Multiplication in GF(2^128) as GCM has it (SP 800-38D, algorithm 1)."""
    product = 0
    for bit in range(128):
        if right >> (127 - bit) & 1:
            product ^= left
        left = left >> 1 ^ (0xE1 << 120 if left & 1 else 0)
    return product


def _inverse(value: int) -> int:
    """The inverse: raised to 2^128 - 2."""
    result, exponent = 1 << 127, 2**128 - 2
    while exponent:
        if exponent & 1:
            result = _times(result, value)
        value = _times(value, value)
        exponent >>= 1
    return result


def _collide(first: bytes, second: bytes, nonce: bytes, block: bytes) -> bytes:
    """Ciphertext of two blocks, and a tag that is right under both keys."""
    (h1, mask1), (h2, mask2) = (_hash_key(key, nonce) for key in (first, second))
    fixed, length = int.from_bytes(block, "big"), 2 * 128  # bits, in the low half of the last block

    def rest(h: int, mask: int) -> int:
        """The tag without the free block's term."""
        cubed = _times(h, _times(h, h))
        return _times(fixed, cubed) ^ _times(length, h) ^ mask

    squares = _times(h1, h1) ^ _times(h2, h2)
    free = _times(rest(h1, mask1) ^ rest(h2, mask2), _inverse(squares))
    tag = rest(h1, mask1) ^ _times(free, _times(h1, h1))
    return block + free.to_bytes(16, "big") + tag.to_bytes(16, "big")


def _hash_key(key: bytes, nonce: bytes) -> tuple[int, int]:
    """H and the mask of the tag."""
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - H and the counter block themselves
    return (
        int.from_bytes(block.update(bytes(16)), "big"),
        int.from_bytes(block.update(nonce + b"\0\0\0\1"), "big"),
    )


def test_plain_gcm_opens_under_two_keys_and_a_stream_does_not() -> None:
    """Key commitment: the forged body is authentic to AES-GCM under both keys; a stream's header allows only one."""
    first, second, forged = _committing_to_nothing()
    nonce, body = forged[:12], forged[12:]
    assert AESGCM(first).decrypt(nonce, body, None) != AESGCM(second).decrypt(nonce, body, None)
    sealed = seal(first, CONTEXT, b"no known allergies")
    with pytest.raises(SealError):
        open_sealed(second, CONTEXT, sealed)
    with pytest.raises(cobblestone.BadMessageError, match="commitment"):
        cobblestone.read(second, CONTEXT, sealed)
