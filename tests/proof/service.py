"""The counter, as other processes talk to it: one connection, many requests at a time."""

from types import TracebackType
from typing import Any, Self

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from .books import Call, Kept, Line, Tally
from .counter import Reply, Request

_decode = msgspec.json.Decoder(Reply).decode
_encode = msgspec.json.Encoder().encode


class _Pending:
    def __init__(self) -> None:
        self.event = anyio.Event()
        self.value = msgspec.Raw()


class Service:
    """A connection to the counter; an async context manager."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._number = 0
        self._pending: dict[int, _Pending] = {}
        self._lock = anyio.Lock()

    async def __aenter__(self) -> Self:
        self._stream: SocketStream = await anyio.connect_unix(self._path)
        self._group: TaskGroup = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._group.cancel_scope.cancel()
        await self._group.__aexit__(None, None, None)
        await self._stream.aclose()

    async def call(self, call: Call) -> int:
        """Let the effect happen; gives the answer."""
        value: int = msgspec.json.decode(await self._ask(call=call))
        return value

    async def keep(self, kept: Kept) -> None:
        """Say what is committed; comes back when it is noted."""
        await self._ask(kept=kept)

    async def of(self, run: str) -> list[Line]:
        """The effects of one run."""
        return msgspec.json.decode(await self._ask(of=run), type=list[Line])

    async def tally(self) -> Tally:
        """All that is known."""
        return msgspec.json.decode(await self._ask(), type=Tally)

    async def _ask(self, **what: Any) -> msgspec.Raw:
        self._number += 1
        number = self._number
        pending = self._pending[number] = _Pending()
        try:
            async with self._lock:
                with anyio.CancelScope(shield=True):  # half a line would spoil the next one
                    await self._stream.send(_encode(Request(number, **what)) + b"\n")
            await pending.event.wait()
            return pending.value
        finally:
            del self._pending[number]

    async def _listen(self) -> None:
        stream = BufferedByteReceiveStream(self._stream)
        while True:
            reply = _decode(await stream.receive_until(b"\n", 2**24))
            pending = self._pending.get(reply.id)
            if pending is not None:
                pending.value = reply.value
                pending.event.set()
