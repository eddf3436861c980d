"""Attempts: a call that is tried again has one entry, one key, and the list of the attempts that failed.

When the next one is due is written into the entry before it is waited for. A wait within what the session lingers for
is waited for in place; a longer one suspends the run, which goes on with that attempt in whichever process resumes it.
Where nothing may suspend (a deadline of the body, a scope that cannot wait, a transaction), it is waited for in place.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import anyio
from msgspec import UNSET
from typing_extensions import override

from skuld_async._clock import Timer, due_in
from skuld_async._retry import Retry, cause_of
from skuld_async._retrying import attempting, wait_after

from . import failures
from .entry import Attempt
from .pauses import Pause, in_last_cleanup, transient_around
from .replaying import give_up

if TYPE_CHECKING:
    from skuld_async._effect import Effect
    from skuld_async._frames import Frame
    from skuld_async._retrying import Call

    from .codec import Codec
    from .entry import Entry
    from .journal import Journal


class Series:
    """How the calls of one effect class are tried again.

    Args:
        codec: Of the effect class, which declares a `Retry`.
        call: What makes the call.
        journal: Of the strand.
        is_async: Whether *call* is to be awaited.
    """

    def __init__(self, codec: Codec, call: Call, journal: Journal, *, is_async: bool) -> None:
        self._kind = codec.kind
        self._policy = cast("Retry", codec.kind.__retry__)
        self._journal = journal
        self._attempt = attempting(call, self._policy, is_async=is_async)

    async def perform(self, effect: Effect[Any], frame: Frame, entry: Entry) -> Any:
        """Make the next attempt at the call of *entry*."""
        entry.deadline = UNSET
        return await self._attempt(effect, frame, len(entry.attempts) + 1)

    async def failed(self, error: Exception, entry: Entry, frame: Frame) -> bool:
        """Write down that an attempt ended with *error*; gives whether there is to be another one."""
        journal, made = self._journal, len(entry.attempts) + 1
        wait = wait_after(error, made, self._policy, self._kind, frame)
        if wait is None or journal.entries[journal.cursor - 1] is not entry:
            return False  # its handler has requested effects, whose answers another attempt would not get
        if in_last_cleanup(frame) is not None and wait.total_seconds() > frame.strand.crew.linger:
            return False  # cleanup has a grace time, and waits for nobody
        at = await due_in(frame, timedelta())
        try:
            due = at + wait
        except OverflowError:
            due = datetime.max.replace(tzinfo=UTC)
        entry.attempts = (*entry.attempts, Attempt(failures.summary_of(cause_of(error)), at, due))
        entry.deadline = due
        return True

    async def pause(self, entry: Entry, frame: Frame) -> None:
        """Wait until the next attempt at the call of *entry* is due; raises the signal that stops the strand."""
        journal = self._journal
        pause = Pause(frame, entry, Timer if _may_suspend(frame) else _InPlace)
        try:
            await pause.wait(journal)
        except anyio.get_cancelled_exc_class():
            give_up(entry, frame, journal)
            raise
        if journal.log.header.status == "suspended":
            journal.log.header.status = "running"


class _InPlace(Timer):
    """Wakes its strand, which counts as moving all the while."""

    @property
    @override
    def is_near(self) -> bool:
        return True


def _may_suspend(frame: Frame) -> bool:
    if anyio.current_effective_deadline() != math.inf or in_last_cleanup(frame) is not None:
        return False
    return transient_around(frame) is None
