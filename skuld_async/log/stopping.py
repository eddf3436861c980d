"""Stopping: on each replay, a run cancel takes effect where it took effect first.

It is kept as a place in the run: the id of the request that was cut short, or, with a ``+`` behind it, the request
behind which the body was in an await of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skuld_async._pump import Strand
from skuld_async._scopes import Route
from skuld_async._signals import RunCancel
from skuld_async.effects.transaction import Begin
from skuld_async.effects.yield_ import Yield

from .local import perform_nested

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame, Place

    from .entry import Entry
    from .journal import Journal


def behind(place: Place) -> str:
    """That the body is behind the last request of *place*."""
    return f"{place.prefix}{place.count}+"


class StoppingStrand(Strand):
    """The strand of a run that was cancelled in an await of its body: there it is cancelled again."""

    __slots__ = ("_is_running", "at", "cancel")

    def __init__(self, run: str, seed: str, at: str, cancel: Callable[[], None]) -> None:
        self.at = at
        self.cancel = cancel
        super().__init__(run, seed)

    @property
    def running(self) -> bool:
        """Whether it is stepped at this moment; the pump says so at each await that is no request."""
        return self._is_running

    @running.setter
    def running(self, value: bool) -> None:
        self._is_running = value
        if value or not self.stack or self.sticky is not None:
            return
        place = self.stack[-1].place
        if place.serving is None and behind(place) == self.at:
            self.cancel()


def stopping(kind: type[Effect[Any]], route: Route, journal: Journal, cancel: Callable[[], None]) -> Route:
    """*route* in a cancelled run: what was cut short then is cut short again, and what came later is refused."""
    function: Callable[..., Any] = route.function

    def stop_or_pass(effect: Effect[Any], frame: Frame) -> Any:
        at = journal.cancelled_at
        if at is None:
            return function(effect, frame)
        entry = journal.entries[-journal.remaining] if journal.remaining else None
        here = entry is not None and entry.id == at
        if entry is not None and _is_inside(entry, at):
            cancel()  # it came while the handler of this call was at work, which went on to its end
            return function(effect, frame)
        if not here and not _is_behind(frame.place, at) and (entry is not None or frame.shielded):
            return function(effect, frame)
        if frame.shielded and not issubclass(kind, Yield):
            cancel()
            return function(effect, frame)
        journal.cancelled_at = None
        if here:
            perform_nested(journal.cancel_here(), journal, frame.table.scope)
        raise RunCancel

    async def stop_or_wait(effect: Effect[Any], frame: Frame) -> Any:
        answer = stop_or_pass(effect, frame)
        return await answer

    return Route(route.mode, stop_or_wait if route.is_async else stop_or_pass, route.scope)


def _is_inside(entry: Entry, at: str) -> bool:
    """Whether *at* is a request of the handler that has answered the call of *entry*, and is passed over with it."""
    is_passed_over = entry.state == "executed" and entry.mark is UNSET and entry.sig != Begin.__sig__
    return is_passed_over and at.startswith(f"{entry.id}/")


def _is_behind(place: Place, at: str) -> bool:
    """Whether the request that is the last one of *place* came behind *at*."""
    prefix, _, count = at.removesuffix("+").rpartition("/")
    return at.endswith("+") and place.prefix == f"{prefix}/" and place.count > int(count)
