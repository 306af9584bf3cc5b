"""docs/operations.md explains every code and reason that an operator meets; actions are docs/observability.md's."""

import re
from itertools import chain
from typing import Final

import pytest

from contracts.failures import FailureCode
from contracts.sweep import Stop
from infra.local.stack import REPOSITORY

SERVICES: Final = ("contracts", "gateway", "messaging", "sealing", "workers")
REASON: Final = re.compile(r'\b(?:\w+Error|_invalid)\(\s*(?:FailureCode\.\w+,\s*)?"([a-z_0-9]+)"\)')


def said(pattern: re.Pattern[str]) -> set[str]:
    """What the services' sources match."""
    files = chain.from_iterable((REPOSITORY / name).rglob("*.py") for name in SERVICES)
    return {found for file in files for found in pattern.findall(file.read_text())}


@pytest.mark.parametrize(
    ("what", "some"),
    [
        (said(REASON), "unknown_client"),
        (set(FailureCode), "busy"),
        (set(Stop), "map_empty"),
    ],
    ids=["reasons", "codes", "stops"],
)
def test_the_operator_finds_what_the_vault_says(what: set[str], some: str) -> None:
    """All of them stand there in backticks, and we looked at the right thing."""
    page = set(re.findall(r"`([^`\n]+)`", (REPOSITORY / "docs/operations.md").read_text()))
    assert some in what
    assert sorted(what - page) == []
