"""FileStore: runs in a folder, one file for each, which a person can read."""

from __future__ import annotations

from bisect import insort
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from msgspec.structs import replace

from skuld_async.stores.memory.run import MemoryRun
from skuld_async.stores.memory.store import MemoryStore

from .folder import Folder
from .journal import Journal
from .state import State

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Coroutine, Sequence
    from types import TracebackType

    from skuld_async.durable.records import Append, NewAnswer, NewDeposit, NewRun, RunRecord
    from skuld_async.durable.store import Answered

T = TypeVar("T")


class FileStore(MemoryStore):
    """Keeps runs in a folder: for development, and for small tools.

    Each run has a file of JSON lines, one for each change. When the folder is opened, all of them are read into memory,
    and stay there. It belongs to one process at a time, whose runtimes may share the store: they have one event loop,
    and may enter it one after another, or one inside the other. Where several processes are to share the runs, or
    there are too many for the memory, take `SQLiteStore`.

    ==============================  ================================  ================================================
    what happens                    ``fsync=True``, the default       ``fsync=False``
    ==============================  ================================  ================================================
    the process is killed           nothing is lost                   nothing is lost
    power fails, the system stops   nothing is lost                   the last seconds of each run are lost; a file may
                                                                      be damaged, so that the folder cannot be opened
                                                                      until it is moved away
    the disk is full                the change is refused with an     as with ``fsync=True``
                                    `OSError`, and can be repeated
    ==============================  ================================  ================================================

    A line that was written halfway is ignored: nobody was told that it is there. A file that is damaged elsewhere is an
    error, which names file and line.

    Args:
        folder: Created where there is none.
        fsync: Whether each change waits for the disk. Those of several runs that wait together share a thread, but the
            disk is asked for each file.
    """

    def __init__(self, folder: str | os.PathLike[str], *, fsync: bool = True) -> None:
        super().__init__()
        self._path = Path(folder)
        self._fsync = fsync
        self._journal: Journal | None = None

    def __repr__(self) -> str:
        return f"FileStore({str(self._path)!r})"

    async def __aenter__(self) -> Self:
        if not self._entered:
            journal = Journal(Folder(self._path, fsync=self._fsync), self)
            states = await journal.open()
            for run in [*self._runs]:
                self.put_back(run, None)  # of the last time
            for state in states:
                self.put_back(state.record.id, state)
            self._journal = journal
        return await super().__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._entered == 1 and self._journal is not None:
                await self._journal.close()
        finally:
            await super().__aexit__(kind, error, traceback)

    # -- changes -----------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, worker: str | None) -> RunRecord:
        """See `Store.create`."""
        return await self._change(partial(super().create, run, worker), run.id)

    async def append(self, item: Append) -> None:
        """See `Store.append`."""
        await self._change(partial(super().append, item), item.run)

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
        work = partial(super().claim, worker, now=now, limit=limit, workflows=workflows, dead=dead, unknown=unknown)
        return await self._change(work, rest=_without)

    async def requeue(self, run: str, now: float) -> bool:
        """See `Store.requeue`."""
        return await self._change(partial(super().requeue, run, now), run)

    async def requeue_known(self, attention: str, workflows: Collection[str], now: float) -> int:
        """See `Store.requeue_known`."""
        return await self._change(partial(super().requeue_known, attention, workflows, now))

    async def delete(self, run: str) -> Literal["deleted", "owned", "unknown"]:
        """See `Store.delete`."""
        return await self._change(partial(super().delete, run), run)

    async def expire(self, before: float, limit: int) -> int:
        """See `Store.expire`."""
        return await self._change(partial(super().expire, before, limit))

    async def answer(self, item: NewAnswer) -> Answered:
        """See `Store.answer`."""
        return await self._change(partial(super().answer, item), item.run)

    async def deposit(self, item: NewDeposit) -> int | None:
        """See `Store.deposit`."""
        return await self._change(partial(super().deposit, item), item.run)

    async def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        """See `Store.cancel`."""
        return await self._change(partial(super().cancel, run, reason, by, at), run)

    async def _change(
        self,
        work: Callable[[], Coroutine[Any, Any, T]],
        run: str | None = None,
        rest: Callable[[T, Collection[str]], T] | None = None,
    ) -> T:
        await super()._turn()
        assert self._journal is not None
        return await self._journal.change(work, run, rest)

    async def _turn(self) -> None:
        if self._journal is None or not self._journal.is_changing:
            await super()._turn()
            assert self._journal is not None
            await self._journal.settled()

    # -- what the journal asks for -----------------------------------------------------------------------------------

    def _put(self, kept: MemoryRun, record: RunRecord) -> None:
        super()._put(kept, record)
        if self._journal is not None:
            self._journal.touch(record.id)

    def _delete(self, kept: MemoryRun) -> None:
        super()._delete(kept)
        if self._journal is not None:
            self._journal.touch(kept.record.id)

    def state(self, run: str) -> State | None:
        """A run as it is now; for the journal."""
        kept = self._runs.get(run)
        if kept is None:
            return None
        return State(
            record=kept.record,
            lease=kept.last_append,
            chunks=tuple(kept.chunks),
            messages=tuple(kept.messages),
            waits=dict(kept.waits),
            events=tuple(kept.events),
        )

    def put_back(self, run: str, state: State | None) -> None:
        """Let a run be as it was; for the journal."""
        if run in self._runs:
            gone = self._runs[run]
            super()._put(gone, replace(gone.record, owner=None, wake=None))
            super()._delete(gone)
        if state is not None:
            kept = self._runs[run] = MemoryRun(replace(state.record, owner=None), b"")
            kept.chunks[:] = state.chunks
            kept.messages[:] = state.messages
            kept.events[:] = state.events
            kept.last_append = state.lease
            insort(self._by_age, (state.record.created, run))
            super()._put(kept, state.record)
            for wait in state.waits.values():
                self._put_wait(kept, wait)


def _without(taken: Sequence[RunRecord], unwritten: Collection[str]) -> Sequence[RunRecord]:
    return tuple(record for record in taken if record.id not in unwritten)
