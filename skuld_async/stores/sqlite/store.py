"""SQLiteStore: runs in one file, for one machine."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, Self

import anyio
from typing_extensions import TypeVar

from skuld_async.durable.errors import StoreClosedError, StoreError
from skuld_async.stores._replies import Homes

from . import claim, messages, reads, runs, waits
from .append import append
from .heart import SQLiteHeart
from .listening import SQLiteListener
from .reader import Reader
from .writer import Writer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
    from types import TracebackType

    from skuld_async.durable.records import (
        Append,
        Message,
        NewAnswer,
        NewDeposit,
        NewEvent,
        NewRun,
        RunFilter,
        RunRecord,
        WaitFilter,
        WaitRecord,
        WorkerRecord,
    )
    from skuld_async.durable.store import Answered

    from .schema import Synchronous
    from .writer import Desk

A = TypeVar("A")
T = TypeVar("T")


class SQLiteStore:
    """Keeps runs in a SQLite file with a write-ahead log, which several processes of one machine may share.

    One thread writes: what many runs ask for while it waits for the disk goes into its next commit, so that they share
    one. Another thread reads, and waits for no writer.

    Changes by this process are known to those who `listen` at once, those by other processes after *poll* seconds at
    most.

    Gotchas:
        The file belongs on a local disk: network file systems do not have the locks that SQLite needs. Where the file
        is copied while it is in use, the copy must be made by SQLite (``.backup``, ``VACUUM INTO``): the newest runs
        are in the file beside it whose name ends in ``-wal``.

    Args:
        path: The file, which is created where there is none. ``:memory:`` is refused: see `MemoryStore`.
        synchronous: What a commit waits for. With ``"full"`` it is on the disk, and survives a loss of power. With
            ``"normal"`` the operating system has it, which is many times faster: it survives the end of the process,
            ``kill -9`` included, but the newest commits may be lost with the power.
        poll: Seconds between two looks at what other processes have written; only while somebody listens.
        timeout: Seconds for which an operation waits while another process keeps the file locked; then it fails with
            ``sqlite3.OperationalError``, and nothing was written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Literal["full", "normal"] = "full",
        poll: float = 0.05,
        timeout: float = 30.0,
    ) -> None:
        self._path = os.fspath(path)
        if not self._path or self._path == ":memory:":
            raise ValueError("SQLiteStore needs a file that several connections can open; in memory: MemoryStore()")
        if synchronous not in {"full", "normal"}:
            raise ValueError(f"synchronous is 'full' or 'normal', not {synchronous!r}")
        self._synchronous: Synchronous = synchronous
        self._poll = poll
        self._timeout = timeout
        self._threads: tuple[Writer, Reader] | None = None
        self._was_entered = False

    def __repr__(self) -> str:
        return f"SQLiteStore({self._path!r})"

    async def __aenter__(self) -> Self:
        if self._was_entered:
            raise StoreError(f"{self!r} was entered before: a store is entered once. Make another one of that path")
        self._was_entered = True
        self._homes = Homes()
        self._threads = threads = (
            Writer(self._path, self._synchronous, self._timeout, self._poll, self._homes),
            Reader(self._path, self._timeout, self._homes),
        )
        try:
            for thread in threads:  # the first one makes what the second one opens
                await thread.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        threads, self._threads = self._threads, None
        # They end even if this task cannot wait for it.
        ends = [thread.stop() for thread in threads or ()]
        with anyio.CancelScope(shield=True):
            for end in ends:
                await end

    def _write(self, work: Callable[[Desk, A], T], item: A) -> Awaitable[T]:
        if self._threads is None:
            raise StoreClosedError(repr(self))
        return self._threads[0].do(work, item)

    def _read(self, work: Callable[[sqlite3.Connection, A], T], item: A) -> Awaitable[T]:
        if self._threads is None:
            raise StoreClosedError(repr(self))
        return self._threads[1].do(work, item)

    # -- runs --------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, worker: str | None) -> RunRecord:
        """See `Store.create`."""
        return await self._write(runs.create, (run, worker))

    async def get(self, run: str) -> RunRecord | None:
        """See `Store.get`."""
        return await self._read(reads.get, run)

    async def load(self, run: str) -> tuple[Sequence[bytes], Sequence[Message]]:
        """See `Store.load`."""
        return await self._read(reads.load, run)

    async def inbox(self, run: str) -> Sequence[Message]:
        """See `Store.inbox`."""
        return await self._read(reads.inbox, run)

    async def runs(self, only: RunFilter, after: tuple[float, str] | None, limit: int) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        return await self._read(reads.list_runs, (only, after, limit))

    async def append(self, item: Append) -> None:
        """See `Store.append`."""
        await self._write(append, item)

    async def claim(
        self,
        worker: str,
        *,
        now: float,
        limit: int,
        workflows: Collection[str],
        dead: Collection[str] = (),
        unknown: bool = False,
    ) -> Sequence[RunRecord]:
        """See `Store.claim`."""
        return await self._write(claim.claim, (worker, now, limit, workflows, dead, unknown))

    async def next_wake(self, workflows: Collection[str]) -> float | None:
        """See `Store.next_wake`."""
        return await self._read(claim.next_wake, workflows)

    async def mail(self, worker: str) -> Sequence[tuple[str, int]]:
        """See `Store.mail`."""
        return await self._read(reads.mail, worker)

    async def requeue(self, run: str, now: float) -> bool:
        """See `Store.requeue`."""
        return await self._write(runs.requeue, (run, now))

    async def requeue_known(self, attention: str, workflows: Collection[str], now: float) -> int:
        """See `Store.requeue_known`."""
        return await self._write(runs.requeue_known, (attention, workflows, now))

    async def delete(self, run: str) -> Literal["deleted", "owned", "unknown"]:
        """See `Store.delete`."""
        return await self._write(runs.delete, run)

    async def expire(self, before: float, limit: int) -> int:
        """See `Store.expire`."""
        return await self._write(runs.expire, (before, limit))

    # -- messages ----------------------------------------------------------------------------------------------------

    async def wait(self, run: str, wait: str) -> WaitRecord | None:
        """See `Store.wait`."""
        return await self._read(waits.get_wait, (run, wait))

    async def waits(self, only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> Sequence[WaitRecord]:
        """See `Store.waits`."""
        return await self._read(waits.list_waits, (only, after, limit))

    async def answer(self, item: NewAnswer) -> Answered:
        """See `Store.answer`."""
        return await self._write(messages.answer, item)

    async def deposit(self, item: NewDeposit) -> int | None:
        """See `Store.deposit`."""
        return await self._write(messages.deposit, item)

    async def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        """See `Store.cancel`."""
        return await self._write(messages.cancel, (run, reason, by, at))

    async def messages(self, run: str) -> Sequence[tuple[Message, str | None]]:
        """See `Store.messages`."""
        return await self._read(reads.list_messages, run)

    # -- events ------------------------------------------------------------------------------------------------------

    async def events(self, run: str, after: int, limit: int) -> Sequence[NewEvent]:
        """See `Store.events`."""
        return await self._read(reads.list_events, (run, after, limit))

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[SQLiteListener]:
        """See `Store.listen`."""
        if self._threads is None:
            raise StoreClosedError(repr(self))
        writer = self._threads[0]
        listener = SQLiteListener(self._homes.here())
        try:
            await writer.do(writer.attach, listener)
            yield listener
        finally:
            listener.is_closed = True

    # -- workers -----------------------------------------------------------------------------------------------------

    def heart(self, worker: WorkerRecord) -> SQLiteHeart:
        """See `Store.heart`."""
        if self._threads is None:
            raise StoreClosedError(repr(self))
        return SQLiteHeart(self._path, self._timeout, worker)

    async def workers(self) -> Sequence[WorkerRecord]:
        """See `Store.workers`."""
        return await self._read(claim.list_workers, None)

    async def bury(self, workers: Collection[str]) -> None:
        """See `Store.bury`."""
        await self._write(claim.bury, workers)
