"""MemoryStore: runs that live as long as this process does."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right, insort
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Literal, Self

import anyio.lowlevel
from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError, StoreClosedError, WaitTakenError
from skuld_async.durable.records import ENDED, PARKED, Message, NewEvent, RunRecord, WaitRecord, WorkerRecord

from .due import Due, Owned
from .run import (
    MemoryRun,
    after_append,
    after_claim,
    after_message,
    new_record,
    requeued,
    wanted_runs,
    wanted_waits,
)
from .watching import MemoryHeart, MemoryListener

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Sequence
    from types import TracebackType

    from skuld_async.durable.records import Append, NewAnswer, NewDeposit, NewRun, RunFilter, WaitFilter
    from skuld_async.durable.store import Answered, Heart, Listener


class MemoryStore:
    """Keeps runs in the memory of this process: for tests, and for runs that may be lost with it.

    Several runtimes of one event loop may share a store. It may be entered more than once, and keeps its runs when it
    is left: a runtime that enters it afterwards goes on with them.
    """

    def __init__(self) -> None:
        self._entered = 0
        self._runs: dict[str, MemoryRun] = {}
        self._by_age: list[tuple[float, str]] = []
        self._open_waits: list[tuple[float, str, str]] = []
        self._due = Due(self._runs)
        self._owned = Owned()
        self._listeners: list[MemoryListener] = []
        self._workers: dict[str, WorkerRecord] = {}
        self._lock = threading.Lock()
        """Held to read and to write the workers: their hearts beat in other threads."""

    def __repr__(self) -> str:
        return f"MemoryStore({len(self._runs)} runs)"

    async def __aenter__(self) -> Self:
        self._entered += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._entered -= 1

    async def _turn(self) -> None:
        """Let other tasks move, as a store does that waits for its disk; what follows happens in one go."""
        self._check_open()
        await anyio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if not self._entered:
            raise StoreClosedError(repr(self))

    # -- runs --------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, worker: str | None) -> RunRecord:
        """See `Store.create`."""
        await self._turn()
        kept = self._runs.get(run.id)
        if kept is None:
            record = new_record(run, worker)
            kept = self._runs[run.id] = MemoryRun(replace(record, owner=None), run.chunk)
            insort(self._by_age, (run.at, run.id))
            self._put(kept, record)
            if record.owner is None:
                self._tell(run.id)
        return kept.record

    async def get(self, run: str) -> RunRecord | None:
        """See `Store.get`."""
        await self._turn()
        kept = self._runs.get(run)
        return None if kept is None else kept.record

    async def load(self, run: str) -> tuple[Sequence[bytes], Sequence[Message]]:
        """See `Store.load`."""
        await self._turn()
        kept = self._runs.get(run)
        return ((), ()) if kept is None else (tuple(kept.chunks), kept.unfolded)

    async def inbox(self, run: str) -> Sequence[Message]:
        """See `Store.inbox`."""
        await self._turn()
        kept = self._runs.get(run)
        return () if kept is None else kept.unfolded

    async def runs(self, only: RunFilter, after: tuple[float, str] | None, limit: int) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        await self._turn()
        end = len(self._by_age) if after is None else bisect_left(self._by_age, after)
        records = (self._runs[self._by_age[place][1]].record for place in reversed(range(end)))
        return tuple(islice(wanted_runs(only, records), limit))

    async def append(self, item: Append) -> None:
        """See `Store.append`."""
        await self._turn()
        kept = self._runs.get(item.run)
        lease = (item.worker, item.token, item.number)
        if kept is not None and kept.last_append == lease:
            return
        if kept is None or (kept.record.owner, kept.record.token, kept.record.appends + 1) != lease:
            raise LeaseLostError(item.run, item.worker, item.token)
        for closing in item.closes:
            wait = kept.waits.get(closing.wait)
            if wait is not None and wait.state == "answered" and not closing.answered:
                raise WaitTakenError(item.run, closing.wait)

        kept.last_append = lease
        before = kept.record
        kept.write(item)
        self._write_waits(kept, item)
        self._put(kept, after_append(before, item))
        if item.release or item.events or kept.record.status != before.status:
            self._tell(item.run)

    def _write_waits(self, kept: MemoryRun, item: Append) -> None:
        for closing in item.closes:
            self._close_wait(kept, closing.wait)
        for wait in item.opens:
            self._put_wait(kept, wait)
        if item.status in ENDED:
            for closed in [*kept.waits]:
                self._close_wait(kept, closed)

    def _put(self, kept: MemoryRun, record: RunRecord) -> None:
        """Give a run another record: the only place that does."""
        before, kept.record = kept.record, record
        self._owned.move(record.id, before.owner, record.owner)
        self._due.note(record)

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
        await self._turn()
        taken: list[RunRecord] = []
        wanted = self._due.workflows(workflows, others=unknown)
        while len(taken) < limit and (kept := self._first_due(wanted, now)) is not None:
            taken.append(self._take(kept, worker, now))
        for run in self._owned.by(dead):
            kept = self._runs[run]
            if len(taken) < limit and (kept.record.workflow in workflows) != unknown:
                taken.append(self._take(kept, worker, now))
        return tuple(taken)

    def _first_due(self, workflows: Collection[str], now: float) -> MemoryRun | None:
        first = self._due.first(workflows)
        return first if first is not None and first.record.wake is not None and first.record.wake <= now else None

    def _take(self, kept: MemoryRun, worker: str, now: float) -> RunRecord:
        has_other_status = kept.record.status != "running"
        self._put(kept, after_claim(kept.record, worker, now))
        if has_other_status:
            self._tell(kept.record.id)
        return kept.record

    async def next_wake(self, workflows: Collection[str]) -> float | None:
        """See `Store.next_wake`."""
        await self._turn()
        kept = self._due.first(workflows)
        return None if kept is None else kept.record.wake

    async def mail(self, worker: str) -> Sequence[tuple[str, int]]:
        """See `Store.mail`."""
        await self._turn()
        owned = [self._runs[run] for run in self._owned.by([worker])]
        return tuple((kept.record.id, kept.record.inbox) for kept in owned if kept.unfolded)

    async def requeue(self, run: str, now: float) -> bool:
        """See `Store.requeue`."""
        await self._turn()
        kept = self._runs.get(run)
        return kept is not None and self._requeue(kept, now)

    def _requeue(self, kept: MemoryRun, now: float) -> bool:
        if kept.record.status not in PARKED:
            return False
        self._put(kept, requeued(kept.record, now))
        self._tell(kept.record.id)
        return True

    async def requeue_known(self, attention: str, workflows: Collection[str], now: float) -> int:
        """See `Store.requeue_known`."""
        await self._turn()
        wanted = (
            kept
            for kept in self._runs.values()
            if kept.record.status == "needs_attention"
            and kept.record.attention == attention
            and kept.record.workflow in workflows
        )
        return sum(self._requeue(kept, now) for kept in wanted)

    async def delete(self, run: str) -> Literal["deleted", "owned", "unknown"]:
        """See `Store.delete`."""
        await self._turn()
        kept = self._runs.get(run)
        if kept is None:
            return "unknown"
        if kept.record.owner is not None:
            return "owned"
        self._delete(kept)
        return "deleted"

    def _delete(self, kept: MemoryRun) -> None:
        record = kept.record
        for wait in [*kept.waits]:
            self._close_wait(kept, wait)
        del self._runs[record.id]
        del self._by_age[bisect_left(self._by_age, (record.created, record.id))]

    async def expire(self, before: float, limit: int) -> int:
        """See `Store.expire`."""
        await self._turn()
        ended = (kept for kept in self._runs.values() if kept.record.status in ENDED and kept.record.updated < before)
        expired = list(islice(ended, limit))
        for kept in expired:
            self._delete(kept)
        return len(expired)

    # -- messages ----------------------------------------------------------------------------------------------------

    async def wait(self, run: str, wait: str) -> WaitRecord | None:
        """See `Store.wait`."""
        await self._turn()
        kept = self._runs.get(run)
        return None if kept is None else kept.waits.get(wait)

    async def waits(self, only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> Sequence[WaitRecord]:
        """See `Store.waits`."""
        await self._turn()
        start = 0 if after is None else bisect_right(self._open_waits, after)
        places = (self._open_waits[place] for place in range(start, len(self._open_waits)))
        waits = (self._runs[run].waits[wait] for _, run, wait in places)
        return tuple(islice(wanted_waits(only, waits), limit))

    def _put_wait(self, kept: MemoryRun, wait: WaitRecord) -> None:
        """Give a wait another record: the only place that does."""
        before = kept.waits.get(wait.id)
        if before is not None and before.state == "open":
            del self._open_waits[bisect_left(self._open_waits, (before.opened, before.run, before.id))]
        kept.waits[wait.id] = wait
        if wait.state == "open":
            insort(self._open_waits, (wait.opened, wait.run, wait.id))

    def _close_wait(self, kept: MemoryRun, wait: str) -> None:
        record = kept.waits.get(wait)
        if record is not None:
            self._put_wait(kept, replace(record, state="closed"))

    async def answer(self, item: NewAnswer) -> Answered:
        """See `Store.answer`."""
        await self._turn()
        kept = self._runs.get(item.run)
        wait = None if kept is None else kept.waits.get(item.wait)
        if kept is None or wait is None or wait.digest != item.digest:
            return "unknown"
        if wait.answer is not None:
            return "repeated" if wait.answer == item.body else "conflict"
        if wait.state == "closed":
            return "closed"
        answered = replace(wait, state="answered", answer=item.body, answered_by=item.by, answered=item.at)
        self._put_wait(kept, answered)
        self._send(kept, Message(0, "answer", item.wait, "", item.body, item.by, item.at))
        return "accepted"

    async def deposit(self, item: NewDeposit) -> int | None:
        """See `Store.deposit`."""
        await self._turn()
        kept = self._runs.get(item.run)
        if kept is None or kept.record.status in ENDED:
            return None
        sent = Message(0, "deposit", item.wait, item.name, item.body, item.by, item.at)
        for message, _ in kept.messages:
            if replace(message, number=0) == sent:
                return message.number
        return self._send(kept, sent)

    async def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        """See `Store.cancel`."""
        await self._turn()
        kept = self._runs.get(run)
        if kept is None or kept.record.status in ENDED:
            return False
        if not any(message.kind == "cancel" for message, _ in kept.messages):
            self._send(kept, Message(0, "cancel", "", "", reason.encode(), by, at))
            self._requeue(kept, at)
        return True

    def _send(self, kept: MemoryRun, message: Message) -> int:
        """Send a message, which gets its number here."""
        numbered = replace(message, number=kept.record.inbox + 1)
        kept.messages.append((numbered, None))
        self._put(kept, after_message(kept.record, numbered))
        self._tell(kept.record.id)
        return numbered.number

    async def messages(self, run: str) -> Sequence[tuple[Message, str | None]]:
        """See `Store.messages`."""
        await self._turn()
        kept = self._runs.get(run)
        return () if kept is None else tuple(kept.messages)

    # -- events ------------------------------------------------------------------------------------------------------

    async def events(self, run: str, after: int, limit: int) -> Sequence[NewEvent]:
        """See `Store.events`."""
        await self._turn()
        kept = self._runs.get(run)
        return () if kept is None else tuple(islice((one for one in kept.events if one.offset > after), limit))

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[Listener]:
        """See `Store.listen`."""
        await self._turn()
        listener = MemoryListener()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def _tell(self, run: str) -> None:
        for listener in self._listeners:
            listener.tell(run)

    # -- workers -----------------------------------------------------------------------------------------------------

    def heart(self, worker: WorkerRecord) -> Heart:
        """See `Store.heart`."""
        self._check_open()
        return MemoryHeart(self._workers, self._lock, worker)

    async def workers(self) -> Sequence[WorkerRecord]:
        """See `Store.workers`."""
        await self._turn()
        with self._lock:
            known = dict(self._workers)
        forgotten = (WorkerRecord(owner, "", 0, "", ()) for owner in self._owned.workers if owner not in known)
        return (*known.values(), *forgotten)

    async def bury(self, workers: Collection[str]) -> None:
        """See `Store.bury`."""
        await self._turn()
        with self._lock:
            for worker in workers:
                if worker not in self._owned.workers:
                    self._workers.pop(worker, None)
