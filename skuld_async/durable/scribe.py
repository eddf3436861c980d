"""The scribe: writes the log of one run into the store, as the holder of its lease."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from msgspec import UNSET

from skuld_async._signals import Suspend
from skuld_async.log.chunks import Changes

from .errors import LeaseLostError, WaitTakenError
from .records import Append, Closing, Folded, NewEvent, WaitRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from skuld_async.log.book import Book
    from skuld_async.log.chunks import Chunk
    from skuld_async.log.entry import Entry

    from .clock import RunClock
    from .records import Message, RunRecord
    from .store import Store

PAUSE = 0.25
"""Seconds that the events of steps wait for company: an append that brings nothing but a chunk is the cheapest."""

MANY = 1000
"""Events that may wait to be written before whoever reports them has to wait too."""

FIRST_DELAY, PATIENCE = 0.1, 30.0
"""Seconds between two attempts to reach a store that is down: at first, and at most."""

logger = logging.getLogger("skuld_async.runtime")

_encode = msgspec.json.Encoder().encode


class Scribe:
    """Keeps the log of a run, and what its inbox and its watchers see of it.

    Args:
        store: Where to.
        record: The run, as it was created or claimed.
        clock: Says what time it is.
        every_step: Whether the log is written at each external effect; else where the run stands still.
        ring: Called when there is something to be written that nobody waits for.
        told: Called when events were written.
    """

    def __init__(
        self,
        store: Store,
        record: RunRecord,
        clock: RunClock,
        *,
        every_step: bool,
        ring: Callable[[], None],
        told: Callable[[], None],
    ) -> None:
        self.record = record
        self.trouble: Exception | None = None
        """Why nothing can be written any more."""
        self.seen = 0
        """Number of the last message that was looked at."""
        self.answers: dict[str, Message] = {}
        """The answers that were accepted, by their waits, until these are closed in the log."""
        self.folded: list[Folded] = []
        """Messages that are dealt with, to be marked so by the next append."""
        self._store = store
        self._clock = clock
        self._every_step = every_step
        self._ring = ring
        self._told = told
        self._lock = anyio.Lock(fast_acquire=True)
        self._events: list[NewEvent] = []
        self._has_reports = False
        self._told_at = -math.inf
        self._keeps_unstable = False
        """Whether what would not come out the same again is being written right now."""
        self._stands = (0, "running")
        """What the store knows: the last message that was looked at, and the status. A message changes the status."""
        self._number = record.appends
        self._offset = record.events
        self._rested = (record.events, record.updated)
        """Where the run last stood still: offset of the last event, and when that was."""
        self._has_lost = False
        """Whether something of the log was pruned since it was last written as a whole."""

    def begin(self, book: Book, stored: int, open_waits: Collection[str]) -> None:
        """Go on with the log of *book*.

        Args:
            book: Of the session.
            stored: How many entries its chunks hold.
            open_waits: Ids of the questions that the store has as open, or as answered.
        """
        self._book = book
        self._changes = Changes(book, stored)
        self._open = set(open_waits)

    def has_news(self, asked: Collection[str]) -> bool:
        """Whether there is what others wait to see: questions that were *asked*, reports, what became of messages."""
        return self._has_reports or bool(self.folded) or not self._open.issuperset(asked)

    async def rest(self) -> None:
        """Write that the run stands still, unless the store knows."""
        more = {} if self._stands == (self.seen, "suspended") else {"status": "suspended"}
        await self.write(rests=True, **more)

    @property
    def patience(self) -> float | None:
        """For how many seconds nobody has to see to what was told; None for as long as one likes."""
        return PAUSE if self._events else None

    # -- for the session: see `Keeper` -------------------------------------------------------------------------------

    async def before_call(self, *, started: bool) -> None:
        """Keep what must not be lost if this process dies in the call."""
        if started or self._book.is_unstable:
            await self.write()
        elif self._keeps_unstable:  # another strand is at it, and this one may know the value too
            async with self._lock:
                pass
        if self.trouble is not None:
            raise Suspend

    async def settled(self, entry: Entry) -> None:
        """Keep *entry*, and all that is pending."""
        kind = "retry" if entry.state == "started" else "step"
        self.tell(kind, {"entry": entry.id, "effect": entry.sig, "state": entry.state})
        if self._every_step:
            await self.write()
        if self.trouble is not None:
            raise Suspend

    # -- events ------------------------------------------------------------------------------------------------------

    def tell(self, kind: str, data: dict[str, Any]) -> None:
        """Let watchers know, with the next append."""
        self._offset += 1
        at = self._clock.seconds()
        self._events.append(NewEvent(self._offset, at, _encode({"kind": kind, **data})))

    def report(self, data: dict[str, Any]) -> None:
        """Let watchers know soon."""
        self.tell("progress", data)
        if not self._has_reports:
            self._has_reports = True
            self._ring()

    @property
    def is_crowded(self) -> bool:
        """Whether so many events wait to be written that whoever reports more should wait."""
        return len(self._events) > MANY

    # -- writing -----------------------------------------------------------------------------------------------------

    async def write(self, *, rests: bool = False, **more: Any) -> None:
        """Append what is new, if anything is; `trouble` says what went wrong.

        Args:
            rests: Whether the run stands still, or has ended.
            **more: Further fields of the `Append`.
        """
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            await self._lock.acquire()
        try:
            if self.trouble is None:
                await self._write(rests=rests, more=more)
        finally:
            self._lock.release()

    async def _write(self, *, rests: bool, more: dict[str, Any]) -> None:
        is_unstable = self._book.is_unstable
        chunk = self._changes.take(rests=rests)
        if chunk is None and not (more or self._events or self.folded):
            return
        opens, closes = ((), ()) if chunk is None else self._waits_in(chunk)
        folded, self.folded = tuple(self.folded), []
        events = self._events_for(chunk, has_more=bool(rests or more or opens or closes or folded))
        now = self._clock.seconds()
        self._has_lost |= chunk is not None and chunk.has_lost
        trim, forget = 0, 0.0
        if rests and self._has_lost and chunk is not None and chunk.is_whole:  # what the log has lost, nobody needs
            (trim, forget), self._has_lost = self._rested, False
        if rests:
            self._rested = (self._offset, now)
        if not rests and self._stands[1] == "suspended":
            more = {"status": "running", **more}  # its time had come
        self._stands = (self.seen, more.get("status", self._stands[1]))
        record = self.record
        assert record.owner is not None
        item = Append(
            run=record.id,
            worker=record.owner,
            token=record.token,
            number=self._number + 1,
            at=now,
            chunk=None if chunk is None else chunk.data,
            replace=chunk is not None and chunk.is_whole,
            seen=self.seen,
            opens=opens,
            closes=closes,
            folded=folded,
            events=events,
            trim=trim,
            forget=forget,
            progress=rests or chunk is not None,  # one that stands still has not killed its worker
            **more,
        )
        self._keeps_unstable = is_unstable
        await self._append(item)
        self._keeps_unstable = False
        if self.trouble is None and events:
            self._told()

    def _events_for(self, chunk: Chunk | None, *, has_more: bool) -> tuple[NewEvent, ...]:
        """The events that an append takes along: those of mere steps may wait for a later one."""
        now = time.monotonic()
        is_plain = chunk is not None and not (has_more or self._has_reports or chunk.is_whole)
        if is_plain and now - self._told_at < PAUSE:
            if len(self._events) == 1:
                self._ring()
            return ()
        events, self._events, self._has_reports = tuple(self._events), [], False
        self._told_at = now
        return events

    async def _append(self, item: Append) -> None:
        """Append *item*, however long the store is out of reach; who is cancelled meanwhile leaves `trouble`."""
        delay = FIRST_DELAY
        while True:
            try:
                with anyio.CancelScope(shield=True):  # whether it was committed has to be known
                    await self._store.append(item)
            except (LeaseLostError, WaitTakenError) as error:
                self.trouble = error
                return
            except Exception as error:
                failure = error
            else:
                self._number += 1
                return
            logger.error("run %s cannot be written, trying again in %g s: %r", item.run, delay, failure)
            try:
                await anyio.sleep(delay)
            except BaseException:
                self.trouble = failure
                raise
            delay = min(2 * delay, PATIENCE)

    def _waits_in(self, chunk: Chunk) -> tuple[tuple[WaitRecord, ...], tuple[Closing, ...]]:
        """The questions that *chunk* opens and closes."""
        opens: list[WaitRecord] = []
        closes: list[Closing] = []
        asked: Iterable[Entry] = (entry for entry in chunk.news if entry.wait is not UNSET)
        for entry in asked:
            if entry.state == "started" and entry.id not in self._open:
                self._open.add(entry.id)
                opens.append(self._opened(entry))
            elif entry.state != "started" and entry.id in self._open:
                closes.append(self._closed(entry.id, is_used=entry.state == "executed"))
        if chunk.has_lost and self._open:  # what is gone from the log was given up, or answered and pruned
            log = self._book.log
            answered = {settled.wait for settled in log.header.settled}
            gone = self._open.difference(entry.id for entry in log.entries)
            closes += [self._closed(wait, is_used=wait in answered) for wait in sorted(gone)]
        return tuple(opens), tuple(closes)

    def _opened(self, entry: Entry) -> WaitRecord:
        wait, record = entry.wait, self.record
        assert wait is not UNSET
        return WaitRecord(
            run=record.id,
            id=entry.id,
            digest=wait.digest,
            sig=entry.sig,
            question=bytes(entry.data),
            schema=b"{}" if wait.schema is UNSET else bytes(wait.schema),
            opened=self._clock.seconds(),
            workflow=record.workflow,
            tags=record.tags,
            name=wait.name,
            assignee=wait.assignee,
            deadline=None if entry.deadline is UNSET else entry.deadline.timestamp(),
        )

    def _closed(self, wait: str, *, is_used: bool) -> Closing:
        self._open.discard(wait)
        answer = self.answers.pop(wait, None)
        if answer is not None:
            self.folded.append(Folded(answer.number, "" if is_used else "the run went on without it"))
        return Closing(wait, answered=answer is not None)
