"""Pauses: a strand that waits for what comes from outside, an answer or a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import anyio
from msgspec import UNSET

from skuld_async._clock import Timer
from skuld_async._computation import grace_ends
from skuld_async._misuse import DeadlineAcrossYieldError, TransientScopeError
from skuld_async._signals import Fault, RunCancel, Signal

if TYPE_CHECKING:
    from datetime import datetime

    from skuld_async._frames import Frame
    from skuld_async._strand import Strand

    from .entry import Entry
    from .journal import Journal


class Pause:
    """A strand that waits at *entry*: parked in its task until it is woken, stopped, or its time has come."""

    def __init__(self, frame: Frame, entry: Entry, timer: type[Timer] = Timer) -> None:
        self.entry = entry
        self._frame = frame
        self._signal: Signal | None = None
        due: datetime | None = None if entry.deadline is UNSET else entry.deadline
        self.timer = timer(frame, due, outside=True)

    @property
    def stopped(self) -> Signal | None:
        """The signal that stops the strand."""
        return self._frame.strand.sticky

    async def wait(self, journal: Journal) -> None:
        """Wait; raises the signal that stops the strand."""
        strand = self._frame.strand
        strand.waiting = self
        try:
            await self.timer.wait()
        finally:
            strand.waiting = None
        if self._signal is not None:
            if isinstance(self._signal, RunCancel):
                journal.stop(self.entry, self._signal)
            raise self._signal

    def interrupt(self, signal: Signal) -> None:
        """Let *signal* end it; cleanup has its grace time instead, where that may be enough."""
        body = self._frame.strand.body
        has_time = self.timer.is_over or self.timer.is_near
        if isinstance(signal, RunCancel) and self._frame.shielded and has_time:
            if body is not None:
                body.deadline = grace_ends()
        elif not self.timer.is_over:
            self._signal = signal
            self.timer.wake()
        elif body is not None:  # the strand can move again, and is only not there yet
            body.cancel()

    def strands(self) -> list[Strand]:
        """None: it waits for nobody."""
        return []

    @property
    def gives_way(self) -> bool:
        """Whether a failed task may end it."""
        return not self.timer.is_over


def in_last_cleanup(frame: Frame) -> RunCancel | None:
    """The signal where *frame* is the cleanup of a strand that was stopped, or a branch of it: it waits for nobody."""
    strand = frame.strand
    while not isinstance(strand.sticky, RunCancel):
        if strand.opened_in is None or not strand.opened_in.shielded:
            return None
        strand = strand.opened_in.strand
    return strand.sticky.with_traceback(None) if strand is frame.strand else RunCancel()


def refuse_in_cleanup(label: str, frame: Frame) -> None:
    """Refuse *label*, which waits, in the cleanup of a strand that was stopped."""
    signal = in_last_cleanup(frame)
    if signal is not None:
        frame.strand.refused.append(f"{label} at {frame.line()}")
        raise signal


async def refuse_what_cannot_wait(label: str, frame: Frame) -> None:
    """Refuse *label*, which may suspend, inside a deadline of the body, or in a scope that cannot wait."""
    deadline = anyio.current_effective_deadline()
    if deadline == -math.inf:
        await anyio.sleep_forever()  # the body asks inside a scope that it has cancelled
    if deadline != math.inf:
        raise Fault(DeadlineAcrossYieldError(label, frame.line()))
    handler = transient_around(frame)
    if handler is not None:
        raise Fault(TransientScopeError(label, handler, frame.line()))


def transient_around(frame: Frame) -> str | None:
    """Label of a handler around *frame* that does not survive a suspension, or None."""
    # A handler that asks does not see the scopes in which its effect was requested, but it keeps them waiting; so does
    # a branch with those of the strand that opened it.
    for one in (frame, *frame.strand.kept_waiting()):
        for scope in one.table.scope.outwards():
            if scope.transient:
                return scope.transient[-1]
    return None
