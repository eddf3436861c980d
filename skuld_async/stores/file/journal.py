"""The journal: what is changed in memory is written to the files, or it is put back as it was.

The rules:

1. A change is made in memory first, in one go, and its task waits until it is in the files: that may fail.
2. Changes that are made before a batch sets out go with it; then they are no longer made until it has arrived.
3. Until it has, nobody reads: what is seen counts, in whatever moment the process dies.
4. A batch whose tasks were cancelled goes its way all the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from skuld_async.durable.errors import StoreClosedError, StoreError

from .batch import Job, Next, next_of
from .thread import FolderThread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
    from concurrent.futures import Future

    from .folder import Folder, Kept
    from .state import State

T = TypeVar("T")


class Memory(Protocol):
    """What the changes are made in."""

    def state(self, run: str) -> State | None:
        """A run as it is now."""
        ...

    def put_back(self, run: str, state: State | None) -> None:
        """Let a run be as it was; None if it was not there."""
        ...


class Journal:
    """Writes the changes that are made in *memory* to the files of *folder*; opened and closed once."""

    def __init__(self, folder: Folder, memory: Memory) -> None:
        self._folder = folder
        self._memory = memory
        self._thread = FolderThread()
        self._files: dict[str, Kept] = {}
        """What the files hold: what is in memory, unless a batch is on its way."""
        self._jobs: list[Job] = []
        """Of the batch, for which `_set_out` was called."""
        self._news: dict[str, Next] = {}
        """What the batch makes of its runs."""
        self._arrived: anyio.Event | None = None
        """The end of the batch; None if there is none."""
        self._is_under_way = False
        self._touched: set[str] | None = None
        """While a change is made: the runs that it has changed."""
        self._refusal: Exception | None = None

    async def open(self) -> Iterable[State]:
        """Take the folder, and read all that is in it."""
        try:
            opened = await self._thread.do(self._folder.open)
        except BaseException:
            await self._release()
            raise
        self._files = {kept.state.record.id: kept for kept in opened}
        return [kept.state for kept in opened]

    async def close(self) -> None:
        """Give the folder back when all changes are written that were made."""
        with anyio.CancelScope(shield=True):
            try:
                await self.settled()
            finally:
                self._refusal = self._refusal or StoreClosedError(f"FileStore({str(self._folder.path)!r})")
                await self._release()

    async def _release(self) -> None:
        released = self._thread.do(self._folder.close)
        self._thread.end()
        with anyio.CancelScope(shield=True):
            await released

    # -- for the memory ----------------------------------------------------------------------------------------------

    @property
    def is_changing(self) -> bool:
        """Whether a change is being made: nothing may wait in it."""
        return self._touched is not None

    def touch(self, run: str) -> None:
        """A run has changed, or is gone."""
        if self._touched is not None:
            self._touched.add(run)

    async def settled(self) -> None:
        """Wait until what can be read is in the files."""
        while self._arrived is not None:
            await self._arrived.wait()

    async def change(
        self,
        work: Callable[[], Awaitable[T]],
        run: str | None = None,
        rest: Callable[[T, Collection[str]], T] | None = None,
    ) -> T:
        """Make a change in the memory and in the files.

        Args:
            work: Makes it in the memory, without waiting for anything.
            run: The run that it is about; None if it finds its runs by itself.
            rest: Gives its result where only a part of it could be written, by what could not.

        Raises:
            OSError: It could not be written, and was not made.
            StoreError: The files cannot be written any more.
        """
        while self._is_under_way and self._arrived is not None:
            await self._arrived.wait()
        if self._refusal is not None:
            raise self._refusal
        job = Job(run, rest)
        await self._make(job, work)
        job.reply = self._thread.reply()
        if self._arrived is not None:  # also if it only looked: what it saw may still be refused
            self._jobs.append(job)
        else:
            job.settle({})
        result: T = await job.reply
        return result

    # -- batches -----------------------------------------------------------------------------------------------------

    async def _make(self, job: Job, work: Callable[[], Awaitable[Any]]) -> None:
        """Make a change in the memory, and put down what becomes of its runs; one that fails was not made."""
        self._touched = job.runs
        try:
            job.result = await work()
            news = {run: next_of(self._latest(run), self._memory.state(run)) for run in job.runs}
        except Exception as error:
            job.error = error
            for run in job.runs:
                self._memory.put_back(run, self._latest(run).state)
            job.runs.clear()
            return
        finally:
            self._touched = None
        if news and self._arrived is None:
            self._arrived = anyio.Event()
            self._thread.soon(self._set_out)
        self._news |= news

    def _latest(self, run: str) -> Next:
        if run in self._news:
            return self._news[run]
        kept = self._files.get(run)
        return Next(kept.state, kept.lines) if kept else Next(None, 0)

    def _set_out(self) -> None:
        self._is_under_way = True
        writes = [new.write(run, self._files.get(run)) for run, new in self._news.items()]
        self._thread.then(partial(self._folder.write, writes), self._arrive)

    def _arrive(self, done: Future[dict[str, OSError]]) -> None:
        failed: Mapping[str, OSError] = {}
        if (error := done.exception()) is None:
            failed = done.result()
        else:
            self._refusal = StoreError(
                f"{self._folder.path}: it is not known what the files hold since a write failed ({error}). "
                "Close the store and open it again: it then goes on with what they hold"
            )
        jobs, self._jobs = self._jobs, []
        news, self._news = self._news, {}
        for run, new in news.items():
            kept = self._files.get(run)
            if error is not None or run in failed:
                self._memory.put_back(run, kept and kept.state)
            elif (written := new.kept(kept)) is not None:
                self._files[run] = written
            else:
                self._files.pop(run, None)
        for job in jobs:
            job.error = job.error if error is None else self._refusal
            job.settle(failed)
        arrived, self._arrived = self._arrived, None
        self._is_under_way = False
        assert arrived is not None
        arrived.set()
