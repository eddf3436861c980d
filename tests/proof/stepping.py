"""A clock that is stepped while the process runs: of the runs and of the runtime, and `time.time` as well."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from skuld_async import Handler
from skuld_async._clock import Alarm, Now
from skuld_async._handler import Installed


class SteppingClock(Handler):
    """The clock of its process from now on.

    Args:
        file: Holds by how many seconds it is ahead; looked at each time.
    """

    label = "Clock.now"

    def __init__(self, file: Path) -> None:
        self._file = file
        self._time: Callable[[], float] = time.time
        time.time = self._stepped

    def install(self) -> Installed:
        """See `Handler.install`."""
        return Installed({Now: self._now, Alarm: self._alarm})

    def _stepped(self) -> float:
        return self._time() + float(self._file.read_text(encoding="utf-8"))

    def _now(self, _effect: Now) -> datetime:
        return datetime.fromtimestamp(self._stepped(), UTC)

    def _alarm(self, alarm: Alarm) -> float:
        return alarm.due.timestamp() - self._stepped()
