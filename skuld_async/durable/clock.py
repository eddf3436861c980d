"""The clock that runs go by: that of their handlers, so that a virtual one moves the runtime too."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from skuld_async._clock import Alarm, Now

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from skuld_async._handler import Handler


class RunClock:
    """The clock of *handlers*; the system's where none of them is one."""

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self._now: Callable[[Any], Any] | None = None
        self._alarm: Callable[[Any], float] | None = None
        for handler in handlers:
            routes: Mapping[Any, Callable[..., Any]] = handler.install().routes if handler.label == "Clock.now" else {}
            self._now = routes.get(Now, self._now)
            self._alarm = routes.get(Alarm, self._alarm)

    def now(self) -> datetime:
        """What time it is."""
        if self._now is None:
            return datetime.now(UTC)
        now: datetime = self._now(Now())
        return now

    def seconds(self) -> float:
        """The same, in seconds since the epoch."""
        return time.time() if self._now is None else self.now().timestamp()

    def seconds_until(self, due: float, wake: Callable[[], None]) -> float:
        """How long to wait for *due*; a clock that stands still calls *wake* instead, and gives infinity."""
        if self._alarm is None:
            return due - self.seconds()
        seconds: float = self._alarm(Alarm(datetime.fromtimestamp(due, UTC), wake))
        return seconds
