"""Taps: what stands between a runtime and its store in the processes of the proof."""

import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn, Protocol, Self, cast

import anyio
import msgspec

from skuld_async.durable.records import Append, RunRecord
from skuld_async.durable.store import Store
from skuld_async.log.chunks import log_of
from skuld_async.log.entry import Entry
from skuld_async.stores.sqlite import SQLiteStore

from .books import Kept
from .service import Service

SLOW = 0.01
"""Seconds."""

At = Literal["before", "after"]
"""Of a call: nothing was done yet, or it is committed."""


class Tap(Protocol):
    """Stands around each call of a store."""

    async def around(self, method: str, perform: Callable[[], Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        """Perform it, or not, and give its result, or not."""
        ...


class _Tapped:
    def __init__(self, store: Store, tap: Tap) -> None:
        self._store = store
        self._tap = tap

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._store.__aexit__(kind, error, traceback)

    def __getattr__(self, name: str) -> Any:
        method: Any = getattr(self._store, name)
        if name in ("heart", "listen"):
            return method

        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._tap.around(name, lambda: method(*arguments, **named), arguments)

        return call


def tapped(store: Store, *taps: Tap) -> Store:
    """The *store* behind *taps*, the first of them next to it."""
    for tap in taps:
        store = cast("Store", _Tapped(store, tap))
    return store


class _Part(msgspec.Struct, array_like=True, frozen=True):
    """The beginning of a chunk, see `skuld_async.log.chunks`."""

    kept: int
    entries: list[Entry]
    changed: list[tuple[int, Entry]] = []


_decode = msgspec.json.Decoder(_Part).decode


def _keys(run: str, entries: list[Entry]) -> list[str]:
    """The keys of the calls that are settled."""
    return [f"{run}/{one.id}" for one in entries if one.state != "started" and one.sig.startswith(__package__ or "")]


class Notary:
    """Tells the counter what is committed, as soon as it is, and before anybody acts on it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tokens: dict[str, int] = {}

    async def around(self, method: str, perform: Callable[[], Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        result = await perform()
        if method == "append":
            item: Append = arguments[0]
            entries = [] if item.chunk is None else self._entries(item.chunk)
            keys = _keys(item.run, entries)
            await self._service.keep(Kept(item.run, keys, item.token, item.number, item.status))
        elif method == "load":
            run, (chunks, _) = arguments[0], result
            await self._service.keep(Kept(run, _keys(run, log_of(chunks)[0].entries), self._tokens.get(run, 0)))
        elif method in ("claim", "create", "get"):
            records: list[RunRecord | None] = list(result) if method == "claim" else [result]
            self._tokens |= {one.id: one.token for one in records if one is not None}
        return result

    def _entries(self, chunk: bytes) -> list[Entry]:
        part = _decode(chunk)
        return [*part.entries, *(entry for _, entry in part.changed)]


def die() -> NoReturn:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Ceiling:
    """While a file is there, the database of SQLite takes no further page: to it, the disk is full.

    Args:
        store: The store itself.
        file: The file.
    """

    def __init__(self, store: SQLiteStore, file: Path) -> None:
        self._store = store
        self._file = file
        self._is_low = False

    async def around(self, method: str, perform: Callable[[], Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        is_low = self._file.exists()
        if is_low != self._is_low:
            self._is_low = is_low
            pages = 1 if is_low else 1_000_000  # a limit below what there is means what there is
            await self._store._write(lambda desk, count: desk.execute(f"PRAGMA max_page_count = {count}"), pages)
        return await perform()


class Killer:
    """Kills its process right before or right after an append.

    Each append is slow, so that it shows what does not wait for it.

    Args:
        at: On which side.
        number: Of the append, counted from 1; none is met if 0.
    """

    def __init__(self, at: At, number: int) -> None:
        self._at = at
        self._left = number

    async def around(self, method: str, perform: Callable[[], Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        if method != "append":
            return await perform()
        self._left -= 1
        if not self._left and self._at == "before":
            die()
        await anyio.sleep(SLOW)
        result = await perform()
        if not self._left and self._at == "after":
            die()
        return result


class Faults:
    """Lets one call of a method fail: behind its commit, or before anything was done."""

    def __init__(self, method: str, number: int, at: At) -> None:
        self.counts: dict[str, int] = {}
        """Calls by method."""
        self.has_struck = False
        self._method = method
        self._number = number
        self._at = at

    def __str__(self) -> str:
        return f"error {self._at} call {self._number} of {self._method}"

    async def around(self, method: str, perform: Callable[[], Awaitable[Any]], arguments: tuple[Any, ...]) -> Any:
        self.counts[method] = self.counts.get(method, 0) + 1
        if (method, self.counts[method]) != (self._method, self._number):
            return await perform()
        self.has_struck = True
        if self._at == "after":
            await perform()
        message = f"call {self._number} of {method} was cut off {self._at} its commit"
        raise ConnectionResetError(message)
