"""A broker that keeps statuses to itself: what a client was not told is never taken for an empty record."""

import os
from typing import Any

import pytest

from contracts.edge import JobStatus
from contracts.limits import INLINE_MAX
from trivault import TransientError, Vault
from trivault.sealer import ClientSealer, Prepared
from trivault.session import Session


@pytest.fixture
def withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody hears where a download is."""
    update = Session._update

    def without_downloads(session: Session, status: JobStatus, body: bytes) -> None:
        update(session, status.model_copy(update={"download": None}), body)

    monkeypatch.setattr(Session, "_update", without_downloads)


@pytest.mark.usefixtures("withheld")
async def test_a_large_record_whose_download_is_withheld_is_not_an_empty_one(vault: Vault) -> None:
    """Its sealed answer says how many bytes it has."""
    external_uuid = await vault.dump(os.urandom(INLINE_MAX + 1))
    with pytest.raises(TransientError, match="answer_lost"):
        await vault.load(external_uuid)
    with pytest.raises(TransientError, match="answer_lost"):
        await vault.export_batch([external_uuid])


async def test_a_client_that_hears_of_the_end_alone_finds_its_download(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`running` was kept from it, or came so late that the gateway told only what came last: one request is enough."""
    blob = os.urandom(INLINE_MAX + 1)
    external_uuid = await vault.dump(blob)
    update, load, requests = Session._update, ClientSealer.load, 0

    def ends(session: Session, status: JobStatus, body: bytes) -> None:
        if status.state.terminal:
            update(session, status, body)

    def counted(*arguments: Any) -> Prepared:
        nonlocal requests
        requests += 1
        return load(*arguments)

    monkeypatch.setattr(Session, "_update", ends)
    monkeypatch.setattr(ClientSealer, "load", counted)
    assert await vault.load(external_uuid) == blob
    ((_, exported),) = await vault.export_batch([external_uuid])
    assert exported == blob
    assert requests == 2
