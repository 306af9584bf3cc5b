"""The Cryptors' HPKE keys are short-lived: with them goes whatever was recorded on its way to the Cryptor."""

import time
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.edge import KeyStatement
from contracts.failures import PermanentError
from sealing.keys import key_id, verify_statement
from workers.cryptor.hpke_keys import KEEP_SECONDS, STATEMENT_SECONDS, HpkeKeys

ROTATE = 86_400
IDENTITY = Ed25519PrivateKey.generate()
VAULT = uuid4()


@pytest.fixture
def keys(tmp_path: Path) -> HpkeKeys:
    """Of one vault, none of them made yet."""
    return HpkeKeys(tmp_path, IDENTITY, VAULT, ROTATE)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set."""
    now = [time.time()]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def offered(keys: HpkeKeys, now: float) -> KeyStatement:
    """What clients would be told, and believe."""
    statement, _ = keys.refresh()
    return verify_statement(statement, IDENTITY.public_key().public_bytes_raw(), VAULT, now)


def test_a_key_is_replaced_kept_for_requests_under_way_and_deleted(
    keys: HpkeKeys, clock: list[float], tmp_path: Path
) -> None:
    """After three days nothing opens any more what was sealed to it: its file is gone."""
    born = clock[0]
    (old,) = offered(keys, born).hpke_keys
    (file,) = tmp_path.glob("*.key")
    clock[0] = born + ROTATE - 1
    assert offered(keys, clock[0]).hpke_keys == [old]
    clock[0] = born + ROTATE + 2
    (new,) = offered(keys, clock[0]).hpke_keys
    assert new != old
    clock[0] = born + ROTATE + KEEP_SECONDS - 2
    keys.refresh()
    assert keys.named(key_id(old)).public == old
    clock[0] = born + ROTATE + KEEP_SECONDS + 2
    keys.refresh()
    assert not file.exists()
    with pytest.raises(PermanentError) as caught:
        keys.named(key_id(old))
    assert caught.value.reason == "unknown_key"


def test_a_key_outlives_every_request_that_may_be_sealed_to_it(keys: HpkeKeys, clock: list[float]) -> None:
    """A client may use a statement until its last second, and its request may live for a day after that."""
    statement = offered(keys, clock[0])
    assert statement.expires_at - statement.issued_at == STATEMENT_SECONDS
    assert KEEP_SECONDS > 2 * 86_400


def test_another_cryptors_new_key_is_found(keys: HpkeKeys, tmp_path: Path) -> None:
    """They share the folder; nobody has to be told."""
    keys.refresh()
    for file in tmp_path.glob("*.key"):
        file.unlink()
    other = HpkeKeys(tmp_path, IDENTITY, VAULT, ROTATE)
    (made,) = offered(other, time.time()).hpke_keys
    assert keys.named(key_id(made)).public == made
