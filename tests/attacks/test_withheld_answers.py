"""A broker that keeps statuses to itself: what a client was not told is never taken for an empty record."""

import os

import pytest

from contracts.edge import JobStatus
from contracts.limits import INLINE_MAX
from trivault import TransientError, Vault
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
