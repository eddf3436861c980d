"""VirtualClock: time that passes when a test says so."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from skuld_async._clock import Alarm, Now
from skuld_async._handler import Handler, Installed

if TYPE_CHECKING:
    from collections.abc import Callable


class VirtualClock:
    """A clock that stands still until it is told to advance.

    Args:
        now: Its time, aware; midnight of 2000-01-01 UTC if None.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self.now: datetime = now or datetime(2000, 1, 1, tzinfo=UTC)
        self._alarms: list[tuple[datetime, Callable[[], None]]] = []

    def advance(self, by: timedelta) -> None:
        """Let the time *by* pass; what sleeps until then in an open session goes on."""
        self.now += by
        due = sorted((one for one in self._alarms if one[0] <= self.now), key=_due)
        self._alarms = [one for one in self._alarms if one[0] > self.now]
        for _, wake in due:
            wake()

    def handler(self) -> Handler:
        """Answers `Clock.now` with this clock's time; sleep and timeouts go by it too."""
        return _VirtualHandler(self, self._alarms_at)

    def _alarms_at(self, alarm: Alarm) -> float:
        if alarm.due <= self.now:
            return 0
        self._alarms.append((alarm.due, alarm.wake))
        return math.inf


class _VirtualHandler(Handler):
    label = "Clock.now"

    def __init__(self, clock: VirtualClock, alarm: Callable[[Alarm], float]) -> None:
        self._clock = clock
        self._alarm = alarm

    def install(self) -> Installed:
        return Installed({Now: self._now, Alarm: self._alarm})

    def _now(self, _effect: Now) -> datetime:
        return self._clock.now


def _due(alarm: tuple[datetime, Callable[[], None]]) -> datetime:
    return alarm[0]
