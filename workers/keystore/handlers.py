"""KeyStore requests to repository calls, one for one. It decides nothing."""

from contracts.codec import Meta, cut
from contracts.stores import (
    KeyDump,
    KeyDumpReply,
    KeyErase,
    KeyEraseReply,
    KeyList,
    KeyListReply,
    KeyLoad,
    KeyLoadReply,
    KeyMark,
    KeyMarkReply,
    KeySweep,
    KeySweepReply,
)
from messaging.link import Buffers
from messaging.rpc import Handler
from workers.keystore.repository import Keys


class KeyStoreHandlers:
    """What the KeyStore answers. Its requests have no body; one that has is not ours (`NotOursError`)."""

    def __init__(self, keys: Keys) -> None:
        """Answer from `keys`."""
        self._keys = keys

    def routes(self) -> dict[type[Meta], Handler]:
        """Which handler answers which request."""
        return {
            KeyDump: self.dump,
            KeyLoad: self.load,
            KeyErase: self.erase,
            KeyList: self.page,
            KeySweep: self.sweep,
            KeyMark: self.mark,
        }

    async def dump(self, request: KeyDump, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Insert keys, or compare them with what is there."""
        cut(body, [])
        return KeyDumpReply(outcomes=await self._keys.dump(request.items, deadline)), ()

    async def load(self, request: KeyLoad, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Read keys."""
        cut(body, [])
        return KeyLoadReply(outcomes=await self._keys.load(request.items, deadline)), ()

    async def erase(self, request: KeyErase, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Erase keys and leave tombstones."""
        cut(body, [])
        return KeyEraseReply(outcomes=await self._keys.erase(request.items, deadline)), ()

    async def page(self, request: KeyList, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """List keys."""
        cut(body, [])
        return KeyListReply(outcomes=[await self._keys.page(each, deadline) for each in request.items]), ()

    async def sweep(self, request: KeySweep, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Quarantine, release or purge keys."""
        cut(body, [])
        return KeySweepReply(outcomes=await self._keys.sweep(request.items, deadline)), ()

    async def mark(self, request: KeyMark, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Raise the high-water mark."""
        cut(body, [])
        return KeyMarkReply(outcomes=[await self._keys.mark(each, deadline) for each in request.items]), ()
