"""What a sweep tells the operator who asked for it. It travels sealed; the gateway sees none of it."""

from enum import StrEnum

from contracts.codec import Model, Size


class Stop(StrEnum):
    """Why a sweep stopped by itself. Unless its counts say otherwise it had changed nothing yet."""

    MAP_BELOW_MARK = "map_below_mark"  # MapStore holds fewer records than it once did
    MAP_EMPTY = "map_empty"  # MapStore holds none at all, the other stores something
    TOO_MANY_CANDIDATES = "too_many_candidates"
    STORE_UNAVAILABLE = "store_unavailable"
    OUT_OF_TIME = "out_of_time"


class Swept(Model):
    """What became of the keys, or of the objects. In a dry run, what would have."""

    seen: Size = 0  # that the store holds, as far as it was listed
    candidates: Size = 0  # of them, older than the grace and named by no row; those in quarantine included
    quarantined: Size = 0
    released: Size = 0  # from quarantine, because a row names them
    purged: Size = 0


class SweepReport(Model):
    """The result of one sweep."""

    dry_run: bool
    records: Size = 0  # that MapStore holds
    mark: Size = 0  # the most it was ever seen to hold
    keys: Swept = Swept()
    objects: Swept = Swept()
    uploads: Size = 0  # unfinished ones that were removed
    files: Size = 0  # temporary ones that were removed
    stopped: Stop | None = None
    store: str = ""  # which store stopped it
    more: bool = False  # it was bounded: another sweep goes on
