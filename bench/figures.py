"""What a run measured, as plain data. How it is measured and how it is shown are the affairs of others."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

MILLISECONDS = "ms"  # the only unit of which less is better


@dataclass(frozen=True, slots=True)
class Series:
    """One figure, measured once per round."""

    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """Its middle value."""
        return median(self.values)

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """The vault beside its baseline; round by round they ran in turn, so that drift of the machine hits both."""

    name: str
    ours: Series
    baseline_name: str
    baseline: Series
    aim: float | None = None

    @property
    def ratio(self) -> float:
        """How much of the baseline's speed is left: medians, 1.0 is as fast as bare."""
        parts = self.ours.median, self.baseline.median
        return parts[1] / parts[0] if self.ours.unit == MILLISECONDS else parts[0] / parts[1]

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "ours": self.ours.told(),
            "baseline_name": self.baseline_name,
            "baseline": self.baseline.told(),
            "ratio": self.ratio,
            "aim": self.aim,
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure that must not be larger than its limit; without a limit it is only told."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "limit": self.limit}


@dataclass(frozen=True, slots=True)
class Usage:
    """What one operation cost one process."""

    operation: str
    process: str
    cpu_seconds: float  # per operation
    peak_mib: float  # resident; of the largest process, if the program has several

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "operation": self.operation,
            "process": self.process,
            "cpu_seconds": self.cpu_seconds,
            "peak_mib": self.peak_mib,
        }


@dataclass(slots=True)
class Section:
    """One part of the report."""

    name: str
    title: str
    comparisons: list[Comparison] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    usages: list[Usage] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "section": self.name,
            "title": self.title,
            "comparisons": [each.told() for each in self.comparisons],
            "bounds": [each.told() for each in self.bounds],
            "usages": [each.told() for each in self.usages],
        }
