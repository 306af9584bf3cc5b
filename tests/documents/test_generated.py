"""Documents that the code can write are what it would write today."""

import pytest

from docs.generate.__main__ import DOCUMENTS, FOLDER


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_generated_document_is_up_to_date(name: str) -> None:
    """Else: `./dev docs`."""
    assert (FOLDER / name).read_text() == DOCUMENTS[name]()
