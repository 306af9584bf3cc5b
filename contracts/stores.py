"""Messages between the Cryptor and the three stores: plural, idempotent per item, ids drawn by the Cryptor.

Every request carries a list of items and every reply the outcomes in the same order: the result, or a `Failure`. One
record is a list of one. What the bytes mean is the Cryptor's affair: to a store, keys are wrapped and data encrypted.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, TypeVar
from uuid import UUID

from pydantic import Field

from contracts.codec import Bytes16, Bytes24, Bytes32, Meta, Model, Size
from contracts.failures import FailureCode
from contracts.limits import MAX_ITEMS, PAGE, PART

Count = Annotated[int, Field(ge=0, le=MAX_ITEMS)]


class Failure(Model):
    """The outcome of an item that was not done."""

    code: FailureCode


class Done(Model):
    """The outcome of an item that was done and has nothing to tell."""


T = TypeVar("T")

# Tried in this order, and the first that fits is it. Otherwise pydantic tries all and compares, which takes two to four
# times as long for rows and ranges.
Outcome = Annotated[T | Failure, Field(union_mode="left_to_right")]


# --- KeyStore -------------------------------------------------------------------------------------------------------


class Key(Model):
    """One KeyStore row."""

    key_store_uuid: UUID
    key: Annotated[bytes, Field(min_length=1, max_length=2048, repr=False)]  # the DEK, wrapped by the KEK
    iv: Bytes24  # the salt of the data's Cobblestone-256 stream


class KeyDump(Meta):
    """Insert keys; an id that is there already must hold the same key and iv (else `conflict`)."""

    TYPE: ClassVar = "keystore.dump.v1"
    items: Annotated[list[Key], Field(min_length=1, max_length=MAX_ITEMS)]


class KeyDumpReply(Meta):
    """Outcomes of `KeyDump`."""

    TYPE: ClassVar = "keystore.dump_reply.v1"
    outcomes: list[Outcome[Done]]


class KeyLoad(Meta):
    """Read keys."""

    TYPE: ClassVar = "keystore.load.v1"
    items: Annotated[list[UUID], Field(min_length=1, max_length=MAX_ITEMS)]


class KeyLoadReply(Meta):
    """Outcomes of `KeyLoad`; `not_found` for an id that never was or is erased."""

    TYPE: ClassVar = "keystore.load_reply.v1"
    outcomes: list[Outcome[Key]]


class KeyErase(Meta):
    """Erase keys and leave tombstones; erasing twice, or an id that never came, is done too."""

    TYPE: ClassVar = "keystore.erase.v1"
    items: Annotated[list[UUID], Field(min_length=1, max_length=MAX_ITEMS)]


class KeyEraseReply(Meta):
    """Outcomes of `KeyErase`."""

    TYPE: ClassVar = "keystore.erase_reply.v1"
    outcomes: list[Outcome[Done]]


# --- DataStore ------------------------------------------------------------------------------------------------------

# An object is named by the first 14 bytes of a data_store_uuid; the last two (u16, big-endian) say which of its entries
# is meant. So an id tells where its data is, and no table of ids is needed beside the objects.


def object_uuid(data_store_uuid: UUID) -> UUID:
    """The id of the first entry in the same object, which names it."""
    return UUID(int=data_store_uuid.int >> 16 << 16)


def entry_number(data_store_uuid: UUID) -> int:
    """Which entry of its object an id means, from 0."""
    return data_store_uuid.int & 0xFFFF


def entry_uuid(object_: UUID, number: int) -> UUID:
    """The id of an entry."""
    return UUID(int=object_.int | number)


UploadId = Annotated[str, Field(min_length=1, max_length=1024)]  # opaque; S3's upload id, or the directory's own


class Data(Model):
    """One entry of an object; its `size` bytes of encrypted data stand in the body, in item order."""

    data_store_uuid: UUID
    auth_tag: Bytes32  # the commitment of the data's Cobblestone-256 stream
    size: Size


class DataDump(Meta):
    """Write objects; an id that is there already must hold the same bytes (else `conflict`).

    Items of one object stand together and in order, from entry 0: they are written, or refused, as one.
    """

    TYPE: ClassVar = "datastore.dump.v1"
    items: Annotated[list[Data], Field(min_length=1, max_length=MAX_ITEMS)]


class DataDumpReply(Meta):
    """Outcomes of `DataDump`."""

    TYPE: ClassVar = "datastore.dump_reply.v1"
    outcomes: list[Outcome[Done]]


class DataBegin(Meta):
    """Begin objects that arrive in parts."""

    TYPE: ClassVar = "datastore.begin.v1"
    items: Annotated[list[Data], Field(min_length=1, max_length=MAX_ITEMS)]  # no body: `size` announces the total


class Begun(Model):
    """Outcome of one begin: what parts and completion must name."""

    upload_id: UploadId


class DataBeginReply(Meta):
    """Outcomes of `DataBegin`."""

    TYPE: ClassVar = "datastore.begin_reply.v1"
    outcomes: list[Outcome[Begun]]


class Part(Model):
    """One part: every part but the last has exactly `PART` bytes; they stand in the body, in item order."""

    data_store_uuid: UUID
    upload_id: UploadId
    auth_tag: Bytes32  # repeated in every part: requests are stateless, and part 1 carries the object's header
    total: Size  # bytes of encrypted data in the whole object
    number: Annotated[int, Field(ge=1, le=10_000)]
    size: Annotated[int, Field(ge=1, le=PART)]
    sha256: Bytes32  # checked before the part is stored


class DataPart(Meta):
    """Store parts, in any order, several times if need be."""

    TYPE: ClassVar = "datastore.part.v1"
    items: Annotated[list[Part], Field(min_length=1, max_length=64)]


class Receipt(Model):
    """Outcome of one part; `receipt` is opaque (S3's ETag) and goes back in `complete`."""

    receipt: Annotated[str, Field(min_length=1, max_length=256)]


class DataPartReply(Meta):
    """Outcomes of `DataPart`."""

    TYPE: ClassVar = "datastore.part_reply.v1"
    outcomes: list[Outcome[Receipt]]


class Parts(Model):
    """One object to complete: all its parts, in order, as their receipts named them."""

    data_store_uuid: UUID
    upload_id: UploadId
    auth_tag: Bytes32
    total: Size
    receipts: Annotated[list[str], Field(min_length=1, max_length=10_000)]


class DataComplete(Meta):
    """Make objects whole; answered only after the store compared the list with what is there, and it is durable."""

    TYPE: ClassVar = "datastore.complete.v1"
    items: Annotated[list[Parts], Field(min_length=1, max_length=64)]


class DataCompleteReply(Meta):
    """Outcomes of `DataComplete`."""

    TYPE: ClassVar = "datastore.complete_reply.v1"
    outcomes: list[Outcome[Done]]


class Range(Model):
    """Bytes [offset, offset + length) of one entry's encrypted data; a length beyond its end is cut there."""

    data_store_uuid: UUID
    offset: Size
    length: Annotated[int, Field(ge=1, le=PART)]


class DataLoad(Meta):
    """Read ranges."""

    TYPE: ClassVar = "datastore.load.v1"
    items: Annotated[list[Range], Field(min_length=1, max_length=MAX_ITEMS)]


class Loaded(Model):
    """Outcome of one range; its `size` bytes stand in the reply's body, in item order."""

    auth_tag: Bytes32
    total: Size  # bytes of encrypted data in the whole entry
    size: Size


class DataLoadReply(Meta):
    """Outcomes of `DataLoad`; `not_found` for an id that never was or is erased."""

    TYPE: ClassVar = "datastore.load_reply.v1"
    outcomes: list[Outcome[Loaded]]


class Unwanted(Model):
    """One entry to erase, with its object's unfinished upload if it had got one."""

    data_store_uuid: UUID
    upload_id: UploadId | None = None


class DataErase(Meta):
    """Erase objects and leave tombstones; erasing twice, or an id that never came, is done too."""

    TYPE: ClassVar = "datastore.erase.v1"
    items: Annotated[list[Unwanted], Field(min_length=1, max_length=MAX_ITEMS)]


class DataEraseReply(Meta):
    """Outcomes of `DataErase`."""

    TYPE: ClassVar = "datastore.erase_reply.v1"
    outcomes: list[Outcome[Done]]


# --- MapStore -------------------------------------------------------------------------------------------------------


class RowState(StrEnum):
    """What a MapStore row says of its (owner, job_id, item)."""

    LIVE = "live"
    ABORTED = "aborted"  # this item never became, and never becomes, a record


class MapKey(Model):
    """What makes a row unique: one item of one job of one owner."""

    owner: Bytes16
    job_id: UUID
    item: Count


class Row(MapKey):
    """One MapStore row. An aborted one has no ids and no share; `mac` covers every other field."""

    state: RowState
    external_uuid: UUID | None = None
    data_store_uuid: UUID | None = None
    key_store_uuid: UUID | None = None
    map_share: Annotated[bytes | None, Field(min_length=32, max_length=32, repr=False)] = None
    request_tag: Bytes32
    size: Size  # bytes of plaintext
    suite: Annotated[int, Field(ge=1, le=255)]
    mac_key: Annotated[int, Field(ge=1)]  # which of the Cryptor's MAC keys
    mac: Bytes32


class MapSettle(Meta):
    """Commit (`live`) or abort (`aborted`) items: the first row of a key wins, and whoever lost is told the winner.

    Refused with `expired` once the message's deadline has passed, so no late commit can follow an abort.
    """

    TYPE: ClassVar = "mapstore.settle.v1"
    items: Annotated[list[Row], Field(min_length=1, max_length=MAX_ITEMS)]


class MapSettleReply(Meta):
    """Outcomes of `MapSettle`: done if the item's own row is there, otherwise the row that won.

    `conflict` if the external_uuid belongs to another key.
    """

    TYPE: ClassVar = "mapstore.settle_reply.v1"
    outcomes: list[Outcome[Done | Row]]


class MapLoad(Meta):
    """Read rows by external_uuid."""

    TYPE: ClassVar = "mapstore.load.v1"
    items: Annotated[list[UUID], Field(min_length=1, max_length=MAX_ITEMS)]


class MapLoadReply(Meta):
    """Outcomes of `MapLoad`: the row, or `not_found`."""

    TYPE: ClassVar = "mapstore.load_reply.v1"
    outcomes: list[Outcome[Row]]


# --- Sweep ----------------------------------------------------------------------------------------------------------

# KeyStore and DataStore tell what they hold, page by page; MapStore tells what of it a row names; then they quarantine,
# release and purge. Ages are seconds by the store's own clock. An object stands for all of its entries.


class Listing(Model):
    """One page of ids, in ascending order."""

    after: UUID = UUID(int=0)  # where the page before ended
    limit: Annotated[int, Field(ge=1, le=PAGE)]
    older_than: Size  # seconds: younger ones are counted, not named


class Old(Model):
    """A key or an object that is older than was asked for."""

    id: UUID
    quarantined: Size | None = None  # seconds ago


class Page(Model):
    """Outcome of one listing. Tombstones are not held."""

    held: Count
    old: Annotated[list[Old], Field(max_length=PAGE)]
    last: UUID | None = None  # where the next page begins; None: this was the last one


class KeyList(Meta):
    """List keys."""

    TYPE: ClassVar = "keystore.list.v1"
    items: Annotated[list[Listing], Field(min_length=1, max_length=1)]


class KeyListReply(Meta):
    """Outcomes of `KeyList`."""

    TYPE: ClassVar = "keystore.list_reply.v1"
    outcomes: list[Outcome[Page]]


class DataList(Meta):
    """List objects."""

    TYPE: ClassVar = "datastore.list.v1"
    items: Annotated[list[Listing], Field(min_length=1, max_length=1)]


class DataListReply(Meta):
    """Outcomes of `DataList`."""

    TYPE: ClassVar = "datastore.list_reply.v1"
    outcomes: list[Outcome[Page]]


class Measure(StrEnum):
    """What a sweep does with a key or an object."""

    QUARANTINE = "quarantine"  # note when it was found unnamed; it loads as before
    RELEASE = "release"  # forget that note
    PURGE = "purge"  # erase it, and leave a tombstone


class Verdict(Model):
    """One key or object, and what is to be done with it."""

    id: UUID
    measure: Measure
    quarantined: Size = 0  # a purge's: seconds that it must have been in quarantine, without a break


class KeySweep(Meta):
    """Quarantine, release or purge keys. Doing so twice, or with an id that never came or is erased, is done too."""

    TYPE: ClassVar = "keystore.sweep.v1"
    items: Annotated[list[Verdict], Field(min_length=1, max_length=PAGE)]


class KeySweepReply(Meta):
    """Outcomes of `KeySweep`; `conflict` for a purge of what was not in quarantine for so long: it stays."""

    TYPE: ClassVar = "keystore.sweep_reply.v1"
    outcomes: list[Outcome[Done]]


class DataSweep(Meta):
    """Quarantine, release or purge whole objects, like `KeySweep`."""

    TYPE: ClassVar = "datastore.sweep.v1"
    items: Annotated[list[Verdict], Field(min_length=1, max_length=PAGE)]


class DataSweepReply(Meta):
    """Outcomes of `DataSweep`, like those of `KeySweep`."""

    TYPE: ClassVar = "datastore.sweep_reply.v1"
    outcomes: list[Outcome[Done]]


class Stale(Model):
    """Unfinished uploads and temporary files that nobody has touched for so long."""

    older_than: Size  # seconds
    remove: bool  # or only count them


class Cleaned(Model):
    """Outcome of one cleaning."""

    uploads: Count
    files: Count
    more: bool = False  # one cleaning is bounded: there are others


class DataClean(Meta):
    """Collect what dead attempts left unfinished."""

    TYPE: ClassVar = "datastore.clean.v1"
    items: Annotated[list[Stale], Field(min_length=1, max_length=1)]


class DataCleanReply(Meta):
    """Outcomes of `DataClean`."""

    TYPE: ClassVar = "datastore.clean_reply.v1"
    outcomes: list[Outcome[Cleaned]]


class Kind(StrEnum):
    """Which of a row's ids is meant."""

    KEY = "key"
    OBJECT = "object"  # any entry of it


class Reference(Model):
    """A key or an object that a row may name."""

    kind: Kind
    id: UUID


class Named(Model):
    """Outcome of one reference."""

    named: bool  # by any row, whatever its state


class MapNames(Meta):
    """Does any row name these?"""

    TYPE: ClassVar = "mapstore.names.v1"
    items: Annotated[list[Reference], Field(min_length=1, max_length=PAGE)]


class MapNamesReply(Meta):
    """Outcomes of `MapNames`."""

    TYPE: ClassVar = "mapstore.names_reply.v1"
    outcomes: list[Outcome[Named]]


class Counted(Model):
    """How many rows there are."""

    rows: Size


class MapCount(Meta):
    """How many rows have this state?"""

    TYPE: ClassVar = "mapstore.count.v1"
    items: Annotated[list[RowState], Field(min_length=1, max_length=len(RowState))]


class MapCountReply(Meta):
    """Outcomes of `MapCount`."""

    TYPE: ClassVar = "mapstore.count_reply.v1"
    outcomes: list[Outcome[Counted]]


class Mark(Model):
    """The most records that MapStore was ever seen to hold; kept with the KeyStore, which shares no fate with it."""

    records: Size


class KeyMark(Meta):
    """Raise the high-water mark to this, unless it is higher."""

    TYPE: ClassVar = "keystore.mark.v1"
    items: Annotated[list[Mark], Field(min_length=1, max_length=1)]


class KeyMarkReply(Meta):
    """Outcomes of `KeyMark`: the mark as it is now."""

    TYPE: ClassVar = "keystore.mark_reply.v1"
    outcomes: list[Outcome[Mark]]


REPLIES: dict[type[Meta], type[Meta]] = {
    KeyDump: KeyDumpReply,
    KeyLoad: KeyLoadReply,
    KeyErase: KeyEraseReply,
    DataDump: DataDumpReply,
    DataBegin: DataBeginReply,
    DataPart: DataPartReply,
    DataComplete: DataCompleteReply,
    DataLoad: DataLoadReply,
    DataErase: DataEraseReply,
    MapSettle: MapSettleReply,
    MapLoad: MapLoadReply,
    KeyList: KeyListReply,
    KeySweep: KeySweepReply,
    KeyMark: KeyMarkReply,
    DataList: DataListReply,
    DataSweep: DataSweepReply,
    DataClean: DataCleanReply,
    MapNames: MapNamesReply,
    MapCount: MapCountReply,
}
