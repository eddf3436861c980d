"""Time: what it is, and being woken at a given one; a virtual clock replaces both."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from ._effect import Effect, Kind

if TYPE_CHECKING:
    from ._frames import Frame


class Now(Effect[datetime], frozen=True):
    """Effect of `Clock.now`; handled by the system's clock where no other handler is in scope."""

    __kind__ = Kind.RECORDED
    __sig__ = "Clock.now"
    __label__ = "Clock.now"

    def __perform__(self, _frame: Any) -> datetime:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        return datetime.now(UTC)


class Alarm(Effect[float], frozen=True):
    """Asks to be woken at a time; never requested by a body. The answer is for how many seconds to wait meanwhile.

    A clock that calls ``wake`` itself answers infinity.
    """

    __kind__ = Kind.UNLOGGED
    due: datetime
    wake: Any

    def __perform__(self, _frame: Any) -> float:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        return (self.due - datetime.now(UTC)).total_seconds()


class TimedOut(msgspec.Struct, frozen=True):
    """What `with_timeout` and ``question.within(...)`` give where the time was over first."""

    due: datetime
    """When that was."""


async def due_in(frame: Frame, after: timedelta) -> datetime:
    """The time at which *after* has passed, by the clock that *frame* sees."""
    route = frame.table.scope.find(Now)
    now: Any = Now().__perform__(frame) if route is None else route.function(Now())
    if hasattr(now, "__await__"):
        now = await now
    try:
        due: datetime = now + after
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)  # never
    return due


class Timer:
    """Wakes its strand: when it is told to, or when a time has come.

    Args:
        frame: Of the computation that waits.
        due: When its time has come; never if None.
        outside: Whether it is told so from outside of the run.
    """

    def __init__(self, frame: Frame, due: datetime | None, *, outside: bool = False) -> None:
        self._frame = frame
        self._outside = outside or due is not None
        self._woken = anyio.Event()
        self._rests = False
        self.is_due = False
        """Whether it was the time that has come."""
        self._seconds = math.inf if due is None else self._arm(due)
        if self._seconds == 0:
            self.is_due = True

    @property
    def is_over(self) -> bool:
        """Whether it has ended the wait."""
        return self._woken.is_set()

    @property
    def is_near(self) -> bool:
        """Whether the time is within what a session lingers for."""
        return self._seconds < math.inf and self._seconds <= self._frame.strand.crew.linger

    def _arm(self, due: datetime) -> float:
        route = self._frame.table.scope.find(Alarm)
        alarm = Alarm(due, self._ring)
        seconds: float = alarm.__perform__(self._frame) if route is None else route.function(alarm)
        return max(seconds, 0)

    def _ring(self) -> None:
        if not self._woken.is_set():
            self.is_due = True
            self.wake()

    def wake(self) -> None:
        """End the wait; from this moment on the strand can move."""
        if self._rests:
            self._rests = False
            self._frame.strand.crew.go(outside=self._outside)
        self._woken.set()

    async def wait(self) -> None:
        """Wait; meanwhile the strand cannot move, unless its time is near."""
        crew = self._frame.strand.crew
        if self.is_due or self._woken.is_set():
            return
        if not self.is_near:
            self._rests = True
            crew.rest(outside=self._outside)
        try:
            with anyio.move_on_after(self._seconds if self._seconds < math.inf else None) as scope:
                await self._woken.wait()
            if scope.cancelled_caught:
                self._ring()
        finally:
            self.wake()
