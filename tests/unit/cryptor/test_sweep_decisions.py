"""What a sweep decides, without stores: nothing named is ever collected, and it stops where something looks wrong."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contracts.limits import CLOCK_SKEW, MAX_EXPIRY
from contracts.stores import Measure, Old
from contracts.sweep import Stop
from infra.provision import provision
from tests.cryptor_settings import cryptor_settings
from workers.cryptor.core.sweep import Census, Policy, doubt, excess, judge
from workers.cryptor.settings import Settings

RETENTION = 1000
POLICY = Policy(grace=10, retention=RETENTION, threshold=0.01, floor=5)

quarantines = st.none() | st.integers(0, 3 * RETENTION)
found = st.builds(Old, id=st.uuids(), quarantined=quarantines)
pages = st.lists(st.tuples(st.lists(st.tuples(found, st.booleans()), max_size=20), st.integers(0, 50)), max_size=5)


def old(quarantined: int | None = None) -> Old:
    """Something past the grace."""
    return Old(id=uuid4(), quarantined=quarantined)


@pytest.mark.parametrize(
    ("quarantined", "named", "measure"),
    [
        (None, True, None),
        (0, True, Measure.RELEASE),
        (RETENTION * 9, True, Measure.RELEASE),
        (None, False, Measure.QUARANTINE),
        (0, False, None),
        (RETENTION - 1, False, None),
        (RETENTION, False, Measure.PURGE),
    ],
)
def test_the_table_of_verdicts(quarantined: int | None, named: bool, measure: Measure | None) -> None:  # noqa: FBT001 - a row of the table
    """Unnamed: quarantine, wait, purge. Named: stay, or be released."""
    assert judge(old(quarantined), named=named, retention=RETENTION) is measure


def census(taken: list[tuple[list[tuple[Old, bool]], int]], most: int = 100) -> Census:
    """A census of these pages, each with so many young ones beside what is old."""
    counted = Census(POLICY, most)
    for some, young in taken:
        counted.count(young + len(some), [each for each, _ in some], [named for _, named in some])
    return counted


@given(pages, st.integers(1, 30))
def test_nothing_named_is_collected_and_nothing_purged_before_its_time(
    taken: list[tuple[list[tuple[Old, bool]], int]], most: int
) -> None:
    """Whatever the stores say; and no list grows beyond its bound unnoticed."""
    counted = census(taken, most)
    everything = [(each, named) for some, _ in taken for each, named in some]
    named_ids = {each.id for each, named in everything if named}
    quarantined: dict[UUID, int | None] = {each.id: each.quarantined for each, _ in everything}
    assert counted.held == sum(young + len(some) for some, young in taken)
    assert counted.candidates == sum(not named for _, named in everything)
    for measure, verdicts in counted.verdicts.items():
        assert len(verdicts) <= most
        for verdict in verdicts:
            assert (verdict.id in named_ids) == (measure is Measure.RELEASE)
            assert verdict.measure is measure
            if measure is Measure.PURGE:
                assert (quarantined[verdict.id] or 0) >= RETENTION
                assert verdict.quarantined == RETENTION  # the store checks it once more, by its own clock
    due = [judge(each, named=named, retention=RETENTION) for each, named in everything]
    assert counted.more == any(due.count(measure) > most for measure in Measure)


@pytest.mark.parametrize(
    ("held", "candidates", "too_many"),
    [
        (6, 5, False),  # the floor: tiny vaults can be swept
        (6, 6, True),
        (600, 6, False),  # 1 %
        (599, 6, True),
        (0, 0, False),
    ],
)
def test_more_than_one_percent_is_too_much(held: int, candidates: int, too_many: bool) -> None:  # noqa: FBT001 - a row of the table
    """But a few are always fine. What is in quarantine already counts as well."""
    waiting = [(old(quarantined=1 if at % 2 else None), False) for at in range(candidates)]
    counted = census([(waiting, held - candidates)])
    assert counted.too_many == too_many
    assert excess([Census(POLICY), counted]) == (Stop.TOO_MANY_CANDIDATES if too_many else None)


@pytest.mark.parametrize(
    ("records", "mark", "stop"),
    [(0, 0, Stop.MAP_EMPTY), (0, 1, Stop.MAP_BELOW_MARK), (9, 10, Stop.MAP_BELOW_MARK), (10, 10, None), (11, 10, None)],
)
def test_a_map_that_lost_records_is_not_believed(records: int, mark: int, stop: Stop | None) -> None:
    """Emptied, or restored from an older backup."""
    assert doubt(records, mark) is stop


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A Cryptor's settings."""
    return cryptor_settings(provision(tmp_path_factory.mktemp("vault")).of("cryptor"))


def test_the_default_grace_outlives_every_request(told: dict[str, Any]) -> None:
    """A day to live, a clock that runs ahead, and the last attempt."""
    settings = Settings.model_validate(told)
    assert settings.sweep.grace_seconds >= MAX_EXPIRY + CLOCK_SKEW + settings.bulk_attempt_seconds
    assert settings.sweep.retention_seconds > settings.sweep.grace_seconds


@pytest.mark.parametrize(
    "changes",
    [
        {"sweep": {"grace_seconds": MAX_EXPIRY}},
        {"sweep": {"grace_seconds": MAX_EXPIRY + CLOCK_SKEW + 899}},
        {"sweep": {"retention_seconds": 3600}},
        {"sweep": {"threshold": 1.5}},
        {"sweep": {"threshold": -0.1}},
        {"sweep": {"floor": -1}},
        {"sweep": {"floor_": 1}},
    ],
)
def test_careless_settings_do_not_start(told: dict[str, Any], changes: dict[str, Any]) -> None:
    """A grace that a stalled dump outlives would make its key and object a sweep's."""
    with pytest.raises(ValidationError, match="sweep"):
        Settings.model_validate(told | changes)
    longer = {"sweep": {"grace_seconds": MAX_EXPIRY + CLOCK_SKEW + 900}}
    assert Settings.model_validate(told | longer).sweep.policy.grace == MAX_EXPIRY + CLOCK_SKEW + 900
