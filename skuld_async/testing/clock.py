"""VirtualClock: time that passes when a test says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from skuld_async.effects.clock import Now

if TYPE_CHECKING:
    from skuld_async._handler import Handler


class VirtualClock:
    """A clock that stands still until it is told to advance.

    Args:
        now: Its time, aware; midnight of 2000-01-01 UTC if None.
    """

    def __init__(self, now: datetime | None = None) -> None:
        self.now: datetime = now or datetime(2000, 1, 1, tzinfo=UTC)

    def advance(self, by: timedelta) -> None:
        """Let the time *by* pass."""
        self.now += by

    def handler(self) -> Handler:
        """Answers `Clock.now` with this clock's time."""
        return Now.handled_by(lambda _: self.now)
