"""How much is measured, and the figures of several rounds."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from bench.figures import Series
from contracts.limits import MIB

IN_FLIGHT: Final = 32
RATE: Final = "records/s"
THROUGHPUT: Final = "MiB/s"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is done."""

    rounds: int
    small: int  # records of 1 KiB per round and direction
    alone: int  # of them one at a time
    large_rounds: int
    bulk: int  # records of 1 KiB per round in batches
    archive: int  # records of 1 KiB in an archive
    files: int  # of all sizes in another
    file_bytes: int  # in all


FULL: Final = Extent(
    rounds=7, small=600, alone=60, large_rounds=9, bulk=20_000, archive=100_000, files=2_000, file_bytes=2048 * MIB
)
QUICK: Final = Extent(
    rounds=3, small=200, alone=20, large_rounds=3, bulk=5_000, archive=10_000, files=100, file_bytes=128 * MIB
)


class Rounds:
    """Figures by name, one value per round, the warm-up left out."""

    def __init__(self) -> None:
        """Begin empty."""
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def add(self, name: str, value: float) -> None:
        """Note one round's value."""
        self._values[name].append(value)

    def series(self, name: str, unit: str) -> Series:
        """All but the first."""
        return Series(unit, self._values[name][1:])
