"""Clock: the time, read once and kept; and sleep that survives the process."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from skuld_async._clock import Now, Timer, due_in
from skuld_async._effect import Effect, Kind
from skuld_async._errors import DeclarationError

if TYPE_CHECKING:
    from skuld_async._frames import Frame


class Sleep(Effect[None], frozen=True):
    """Effect of `Clock.sleep`."""

    __kind__ = Kind.CONTROL
    __sig__ = "Clock.sleep"
    __label__ = "Clock.sleep"
    __opaque__ = True
    after: timedelta

    async def __perform__(self, frame: Frame) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        await Timer(frame, await due_in(frame, self.after)).wait()


class Clock:
    """Time as an effect: a replay sees the time of the first run."""

    __family__: ClassVar[type[Effect[Any]]] = Now
    """What ``effects=[Clock]`` selects."""

    @staticmethod
    def now() -> Effect[datetime]:
        """The time, aware, in UTC."""
        return Now()

    @staticmethod
    def sleep(after: timedelta) -> Effect[None]:
        """Go on when the time *after* has passed, in this process or in another one.

        When it is over is fixed at the first arrival, and kept in the log. Under a log the run suspends here unless it
        is over within ``linger``; `resume` goes on, and suspends again where it comes too early.

        Args:
            after: The time to pass; no part of what a replay compares, so that it may be changed for later runs.
        """
        if not isinstance(after, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
            raise DeclarationError(f"Clock.sleep({after!r:.40})", "this is no time span", "give a timedelta")
        return Sleep(after)
