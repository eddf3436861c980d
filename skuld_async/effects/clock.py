"""Clock: the time, read once and kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar

from skuld_async._effect import Effect, Kind


class Now(Effect[datetime], frozen=True):
    """Effect of `Clock.now`; handled by the system's clock where no other handler is in scope."""

    __kind__ = Kind.RECORDED
    __sig__ = "Clock.now"
    __label__ = "Clock.now"

    def __perform__(self, _frame: Any) -> datetime:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        return datetime.now(UTC)


class Clock:
    """Time as an effect: a replay sees the time of the first run."""

    __family__: ClassVar[type[Effect[Any]]] = Now
    """What ``effects=[Clock]`` selects."""

    @staticmethod
    def now() -> Effect[datetime]:
        """The time, aware, in UTC."""
        return Now()
