"""Group commit: whatever waits while a commit is under way goes into the next one.

1. A batch is written in one round trip and one commit. Its items report each for itself.
2. The items of a batch are sorted by their run: two batches never lock the same rows in different orders.
3. A batch that fails with an error of the database is done again item by item: only the guilty one fails.
4. While items come one by one, each is written at once, by the task that brings it. Where they come together, the
   first one waits until the tasks that are ready at the same time have brought theirs too.
"""

from __future__ import annotations

import asyncio
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .driver import is_passing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .connections import Connections, Held
    from .driver import Connection, Row

I = TypeVar("I")  # noqa: E741 - an item
I_contra = TypeVar("I_contra", contravariant=True)
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Kind(Protocol[I_contra, R_co]):
    """Things that are written together."""

    def run_of(self, item: I_contra, /) -> str:
        """The run whose row it locks."""
        ...

    async def write(self, connection: Connection, items: Sequence[I_contra], /) -> Sequence[R_co | Exception]:
        """Write them; gives what became of each, in their order."""
        ...


async def execute(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> dict[int, Row]:
    """Execute *statement* with each of *rows*, in one round trip and one commit.

    Returns:
        What it returned, by its first column: the position that the row gave it.
    """
    if len(rows) == 1:
        found = await connection.fetch(statement, *rows[0])
    else:
        found = await connection.fetchmany(statement, rows)
    return {row[0]: row for row in found}


class Batches:
    """Writes items in batches.

    Args:
        connections: Where they are written.
        lanes: How many batches may be under way at once. Each lane holds a connection from its first use on.
        most: How many items a batch has at most.
    """

    def __init__(self, connections: Connections, lanes: int, most: int) -> None:
        self._connections = connections
        self._idle = [connections.hold() for _ in range(lanes)]
        self._lanes = lanes
        self._most = most
        self._waiting: dict[Any, list[tuple[Any, asyncio.Future[Any]]]] = {}
        """What waits, by kind; the kind that has waited longest comes first."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 1
        """Size of the last batch."""
        self._starting = 0
        """Tasks that have not taken anything yet."""

    async def write(self, kind: Kind[I, R], item: I) -> R:
        """Write *item*; returns when it is committed, or raises what became of it."""
        if self._last == 1 and len(self._idle) == self._lanes and not self._waiting:
            held = self._idle.pop()
            try:
                (result,) = await self._patiently(held, kind, [item])
            finally:
                self._free(held)
            if isinstance(result, Exception):
                raise result
            return result
        place: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(kind, []).append((item, place))
        self._start()
        return await place

    async def close(self) -> None:
        """Wait for what is under way, and give the connections back."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        for held in self._idle:
            await held.release()

    def _start(self) -> None:
        """Let an idle lane take what waits, once the tasks that are ready now have moved."""
        if self._idle and self._starting < len(self._waiting):
            self._starting += 1
            task = asyncio.get_running_loop().create_task(self._run(self._idle.pop()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _free(self, held: Held) -> None:
        self._idle.append(held)
        self._start()

    async def _run(self, held: Held) -> None:
        self._starting -= 1
        try:
            while self._waiting:
                kind, batch = self._take()
                if batch:
                    self._last = len(batch)
                    await self._write(held, kind, batch)
        finally:
            self._free(held)

    def _take(self) -> tuple[Kind[Any, Any], list[tuple[Any, asyncio.Future[Any]]]]:
        kind: Kind[Any, Any] = next(iter(self._waiting))
        waiting = self._waiting.pop(kind)
        if len(waiting) > self._most:
            self._waiting[kind] = waiting[self._most :]
        batch = [(kind.run_of(item), item, place) for item, place in waiting[: self._most] if not place.done()]
        batch.sort(key=itemgetter(0))
        return kind, [(item, place) for _, item, place in batch]

    async def _write(self, held: Held, kind: Kind[Any, Any], batch: Sequence[tuple[Any, asyncio.Future[Any]]]) -> None:
        results: Sequence[Any]
        try:
            results = await self._patiently(held, kind, [item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not is_passing(error):
                for one in batch:
                    await self._write(held, kind, [one])
                return
            results = [error] * len(batch)
        for (_, place), result in zip(batch, results, strict=True):
            if place.done():  # whoever waited for it was cancelled
                continue
            if isinstance(result, Exception):
                place.set_exception(result)
            else:
                place.set_result(result)

    async def _patiently(self, held: Held, kind: Kind[I, R], items: Sequence[I]) -> Sequence[R | Exception]:
        return await self._connections.patiently(lambda: held.use(lambda connection: kind.write(connection, items)))
