"""Recording: one rule for each kind of effect, bound around its handler.

=========  ================================  ========================================================
kind       on the first run                  on replay
=========  ================================  ========================================================
local      performed, then logged            performed again, its value checked
recorded   logged, performed, settled        answered from the log
external   logged, performed, settled        answered from the log; performed only if it was started
derived    logged without a value            computed again from seed and id
control    see `loops` and `Session.ask`
=========  ================================  ========================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET

from skuld_async._chain import caller
from skuld_async._effect import Kind
from skuld_async._scopes import ASYNC_FRAMED, SYNC_FRAMED, Route
from skuld_async._signals import RunCancel, Signal
from skuld_async.effects.loop import Mark
from skuld_async.effects.yield_ import Yield

from .codec import codec_of
from .entry import Entry
from .local import Local, perform_again

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame

    from .codec import Codec
    from .journal import Journal
    from .loops import Marks
    from .session import Session


class Recorder:
    """The log's place in the chain of a session."""

    def __init__(self, session: Session[Any], journal: Journal, marks: Marks, only: Sequence[type] | None) -> None:
        self.session = session
        self.journal = journal
        self.marks = marks
        self.only = None if only is None else tuple(getattr(family, "family", family) for family in only)

    def bind(self, kind: type[Effect[Any]], live: Route | None) -> Route | None:
        """The route that logs *kind*; *live* performs it."""
        route = self._bind(kind, live)
        if route is None or self.journal.cancelled_at is None or kind.__kind__ is Kind.UNLOGGED:
            return route
        return _stopping(route, self.journal)

    def _bind(self, kind: type[Effect[Any]], live: Route | None) -> Route | None:
        if issubclass(kind, Mark):
            return Route(SYNC_FRAMED, self.marks.mark)
        if live is None:
            return Route(ASYNC_FRAMED, self.session.ask) if issubclass(kind, Yield) else None
        family = kind.__kind__
        if self.only is not None and family in (Kind.LOCAL, Kind.RECORDED) and not issubclass(kind, self.only):
            family = Kind.UNLOGGED
        codec = codec_of(kind)
        if family is Kind.UNLOGGED:
            return _unlogged(live)
        if family is Kind.DERIVED:
            return derived(codec, live, self.journal)
        if family is Kind.LOCAL or (family is Kind.CONTROL and not issubclass(kind, Yield)):
            return Local(codec, live, self.journal).route()
        if live.is_async:
            return external_async(codec, live, self.journal, self.session)
        return external_sync(codec, live, self.journal)


def derived(codec: Codec, live: Route, journal: Journal) -> Route:
    """Computed from seed and id: the entry keeps the id."""
    function = caller(live)

    def record(effect: Effect[Any], frame: Frame) -> Any:
        data = journal.data(codec, effect, frame)
        entry = journal.match(codec, data, frame)
        frame.place.replayed = entry is not None
        if entry is None:
            journal.spend()
            entry = Entry(journal.new_id(frame), codec.sig, data)
            journal.add(entry)
        frame.place.entry_id = entry.id
        return function(effect, frame)

    return Route(ASYNC_FRAMED if live.is_async else SYNC_FRAMED, record, live.scope)


def external_sync(codec: Codec, live: Route, journal: Journal) -> Route:
    """Answered from the log; called where it was not settled yet."""
    function = caller(live)

    def record(effect: Effect[Any], frame: Frame) -> Any:
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            return replayed(codec, entry, journal, frame)
        try:
            value = function(effect, frame)
        except Exception as error:
            seen = journal.discard(codec, entry, error)
            raise seen from seen.__cause__
        return journal.settle(codec, entry, value)

    return Route(SYNC_FRAMED, record, live.scope)


def external_async(codec: Codec, live: Route, journal: Journal, session: Session[Any]) -> Route:
    """As `external_sync`, in a cancel scope of its own, so that host, run and body cancels are told apart."""
    function = caller(live)

    async def record(effect: Effect[Any], frame: Frame) -> Any:
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            if entry.error is not UNSET and entry.error.kind == "body-scope":
                await anyio.sleep_forever()  # until the body's own scope fires, as it did then
            return replayed(codec, entry, journal, frame)
        outer = session.in_flight
        value, returned = None, False
        try:
            with anyio.CancelScope() as session.in_flight:
                value = await function(effect, frame)
                returned = True
        except anyio.get_cancelled_exc_class():
            journal.abandon(entry, "body-scope")
            raise
        except Signal as signal:
            if isinstance(signal, RunCancel):
                journal.abandon(entry, "run-cancel")
            raise
        except Exception as error:
            seen = journal.discard(codec, entry, error)
            raise seen from seen.__cause__
        finally:
            session.in_flight = outer
        if not returned:
            raise session.interruption(entry)
        return journal.settle(codec, entry, value)

    return Route(ASYNC_FRAMED, record, live.scope)


def replayed(codec: Codec, entry: Entry, journal: Journal, frame: Frame) -> Any:
    """The logged answer; what its handler did to local state is done again."""
    for inner in journal.nested(entry):
        perform_again(inner, frame)
    if entry.state == "executed":
        return journal.value(codec, entry)
    raise journal.error(codec, entry)


def _unlogged(live: Route) -> Route:
    function = caller(live)

    def pass_on(effect: Effect[Any], frame: Frame) -> Any:
        frame.place.entry_id = None
        return function(effect, frame)

    return Route(ASYNC_FRAMED if live.is_async else SYNC_FRAMED, pass_on, live.scope)


def _stopping(route: Route, journal: Journal) -> Route:
    """*route* in a run that was cancelled: the cancel takes effect where it did then."""
    function: Callable[..., Any] = route.function

    def stop_or_pass(effect: Effect[Any], frame: Frame) -> Any:
        entry = journal.entries[-journal.remaining] if journal.remaining else None
        next_id = f"{frame.place.prefix}{frame.place.count}{journal.suffix}" if entry is None else entry.id
        if next_id == journal.cancelled_at:
            journal.cancelled_at = None
            if entry is not None:
                journal.cancel_here()
            raise RunCancel
        return function(effect, frame)

    async def stop_or_wait(effect: Effect[Any], frame: Frame) -> Any:
        return await stop_or_pass(effect, frame)

    return Route(route.mode, stop_or_wait if route.is_async else stop_or_pass, route.scope)
