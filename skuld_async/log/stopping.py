"""Stopping: on each replay, a run cancel takes effect where it took effect first.

It is kept as a place in the run: the id of the request that was cut short, or, with a ``+`` behind it, the request
behind which the body was in an await of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from skuld_async._branches import Team
from skuld_async._opening import Opening
from skuld_async._scopes import Route
from skuld_async._signals import RunCancel, TaskFailed
from skuld_async.effects.transaction import Begin
from skuld_async.effects.yield_ import Yield

from .replaying import perform_nested
from .strands import LoggedStrand

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame, Place
    from skuld_async._strand import Strand

    from .entry import Entry
    from .journal import Journal


def behind(place: Place) -> str:
    """That the body is behind the last request of *place*."""
    return f"{place.prefix}{place.count}+"


def places_of(strand: Strand) -> list[str]:
    """Where *strand* would be stopped now, and behind that its branches and its tasks."""
    behind_it = [place for task in strand.tasks for other in task.strands() for place in places_of(other)]
    waiting = strand.waiting
    if isinstance(waiting, Team):
        return [
            waiting.id,
            *(place for other in waiting.strands() if other.stack for place in places_of(other)),
            *behind_it,
        ]
    cut_at = strand.cut_at if isinstance(strand, LoggedStrand) else None
    if cut_at is not None:
        return [cut_at, *behind_it]
    if not strand.stack:
        return [f"{strand.path}/0+"]
    place = strand.stack[-1].place
    return [place.current_id if place.serving is not None else behind(place), *behind_it]


class StoppingStrand(LoggedStrand):
    """A strand that was stopped in an await of its body: there it is stopped again."""

    __slots__ = ("_is_running", "at")

    def __init__(self, run: str, seed: str, journal: Journal, at: str, parent: Strand | None = None) -> None:
        self.at = at
        super().__init__(run, seed, journal, parent)

    @property
    def running(self) -> bool:
        """Whether it is stepped at this moment; the pump says so at each await that is no request."""
        return self._is_running

    @running.setter
    def running(self, value: bool) -> None:
        self._is_running = value
        if value or not self.stack or isinstance(self.waiting, Team) or not isinstance(self.sticky, TaskFailed | None):
            return
        place = self.stack[-1].place
        if place.serving is None and behind(place) == self.at:
            self.stop_again()


def strand_on(journal: Journal, run: str, seed: str, parent: Strand | None = None) -> LoggedStrand:
    """The strand that *journal* is the journal of."""
    at = journal.cancelled_at
    if at is None:
        return LoggedStrand(run, seed, journal, parent)
    return StoppingStrand(run, seed, journal, at, parent)


def stopping(kind: type[Effect[Any]], route: Route, journal: Journal) -> Route:
    """*route* in a cancelled run: what was cut short then is cut short again, and what came later is refused."""
    function: Callable[..., Any] = route.function

    def stop_or_pass(effect: Effect[Any], frame: Frame) -> Any:
        at = journal.cancelled_at
        if at is None:
            return function(effect, frame)
        entry = journal.entries[-journal.remaining] if journal.remaining else None
        here = entry is not None and entry.id == at
        if entry is not None and _is_inside(entry, at):
            _stop_again(frame)  # it came while the handler of this call was at work, which went on to its end
            return function(effect, frame)
        if not here and not _is_behind(frame.place, at) and (entry is not None or frame.shielded):
            return function(effect, frame)
        if frame.shielded and not issubclass(kind, Yield):
            _stop_again(frame)
            return function(effect, frame)
        if here and issubclass(kind, Opening):
            journal.cancelled_at = None
            frame.strand.stop(RunCancel())  # the branches are stopped again too, each where it was
            return function(effect, frame)
        journal.cancelled_at = None
        if here:
            perform_nested(journal.cancel_here(), journal, frame.table.scope)
        raise RunCancel

    async def stop_or_wait(effect: Effect[Any], frame: Frame) -> Any:
        answer = stop_or_pass(effect, frame)
        return await answer

    return Route(route.mode, stop_or_wait if route.is_async else stop_or_pass, route.scope)


def _stop_again(frame: Frame) -> None:
    strand = frame.strand
    assert isinstance(strand, LoggedStrand)
    strand.stop_again()


def _is_inside(entry: Entry, at: str) -> bool:
    """Whether *at* is a request of the handler that was at the call of *entry*, and is passed over with it."""
    is_passed_over = entry.state != "started" and entry.mark is UNSET and entry.sig != Begin.__sig__
    return is_passed_over and at.startswith(f"{entry.id}/")


def _is_behind(place: Place, at: str) -> bool:
    """Whether the request that is the last one of *place* came behind *at*."""
    prefix, _, count = at.removesuffix("+").rpartition("/")
    return at.endswith("+") and place.prefix == f"{prefix}/" and place.count > int(count)
