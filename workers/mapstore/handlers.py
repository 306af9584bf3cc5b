"""MapStore requests to repository calls, one for one. It decides nothing."""

from contracts.codec import Meta, cut
from contracts.stores import (
    Done,
    MapCount,
    MapCountReply,
    MapLoad,
    MapLoadReply,
    MapNames,
    MapNamesReply,
    MapSettle,
    MapSettleReply,
)
from messaging.link import Buffers
from messaging.rpc import Handler
from workers.mapstore.repository import Map


class MapStoreHandlers:
    """What the MapStore answers. Its requests have no body; one that has is not ours (`NotOursError`)."""

    def __init__(self, table: Map) -> None:
        """Answer from `table`."""
        self._map = table

    def routes(self) -> dict[type[Meta], Handler]:
        """Which handler answers which request."""
        return {MapSettle: self.settle, MapLoad: self.load, MapNames: self.names, MapCount: self.count}

    async def settle(self, request: MapSettle, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Commit or abort items, and tell who won."""
        cut(body, [])
        winners = await self._map.settle(request.items, deadline)
        outcomes = [Done() if won == row else won for row, won in zip(request.items, winners, strict=True)]
        return MapSettleReply(outcomes=outcomes), ()

    async def load(self, request: MapLoad, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Read rows."""
        cut(body, [])
        return MapLoadReply(outcomes=await self._map.load(request.items, deadline)), ()

    async def names(self, request: MapNames, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Tell which keys and objects a row names."""
        cut(body, [])
        return MapNamesReply(outcomes=await self._map.names(request.items, deadline)), ()

    async def count(self, request: MapCount, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Count rows."""
        cut(body, [])
        return MapCountReply(outcomes=await self._map.count(request.items, deadline)), ()
