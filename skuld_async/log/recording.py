"""Recording: one rule for each kind of effect, bound around its handler.

=========  ================================  ========================================================
kind       on the first run                  on replay
=========  ================================  ========================================================
local      performed, then logged            performed again, its value checked
recorded   logged, performed, settled        answered from the log
external   logged, performed, settled        answered from the log; performed only if it was started
derived    logged without a value            computed again from seed and id
control    see `loops`, `questions` and `transactions`
=========  ================================  ========================================================
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from msgspec import UNSET

from skuld_async._chain import Chain, caller
from skuld_async._effect import Kind
from skuld_async._opening import Opening
from skuld_async._scopes import ASYNC_FRAMED, SYNC_FRAMED, Route
from skuld_async.effects.atomic import AtomicEffect
from skuld_async.effects.channel import ChannelEffect
from skuld_async.effects.clock import Sleep
from skuld_async.effects.fork import TaskEffect
from skuld_async.effects.loop import Mark
from skuld_async.effects.transaction import Begin
from skuld_async.effects.yield_ import Yield

from .atomic import atomic
from .channels import channelling
from .codec import codec_of
from .entry import Entry
from .external import awaited, external
from .local import Local, settled
from .loops import Marks
from .replaying import give_up, wait_where_given_up
from .sleeping import sleeping
from .stopping import stopping
from .tasks import asking
from .teams import concurrent
from .transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from skuld_async._effect import Effect, Interceptor, Observation
    from skuld_async._frames import Frame

    from .codec import Codec
    from .journal import Journal
    from .strands import Bind


class Rules(msgspec.Struct, frozen=True):
    """How all strands of a session are recorded."""

    ask: Callable[[Journal, Any, Frame], Any]
    """Serves a question that no handler answers."""
    only: tuple[type, ...] | None
    """The families of local and recorded effects that are logged; all if None."""
    prune: bool
    prune_branches: bool
    state_keys: Collection[str] | None
    intercept: Sequence[Interceptor]
    observe: Sequence[Callable[[Observation], None]]

    def bind(self, recorder: Recorder) -> Bind:
        """What binds the routes of the strand that *recorder* records."""
        return Chain(self.intercept, self.observe, recorder).bind


class Recorder:
    """The log's place in the chain of a session."""

    def __init__(
        self,
        journal: Journal,
        rules: Rules,
    ) -> None:
        self.journal = journal
        self.rules = rules

    def beside(self, journal: Journal) -> Bind:
        """What binds the routes of another strand of the session, by the same rules."""
        return self.rules.bind(Recorder(journal, self.rules))

    def bind(self, kind: type[Effect[Any]], live: Route | None) -> Route | None:
        """The route that logs *kind*; *live* performs it."""
        route = self._bind(kind, live)
        if route is None or self.journal.cancelled_at is None or kind.__kind__ is Kind.UNLOGGED:
            return route
        return stopping(kind, route, self.journal)

    @cached_property
    def _cut_off(self) -> frozenset[str]:
        """Names of the calls that a scope of the body cut off: a replay waits there, under a sync handler too."""
        entries = self.journal.entries
        return frozenset(
            one.sig for one in entries if one.error is not UNSET and one.error.kind in ("body-scope", "task")
        )

    def _bind(self, kind: type[Effect[Any]], live: Route | None) -> Route | None:  # noqa: PLR0911 - the table above
        rules, journal = self.rules, self.journal
        if issubclass(kind, Mark):
            return Route(SYNC_FRAMED, Marks(journal, prune=rules.prune, state_keys=rules.state_keys).mark)
        if live is None:
            return Route(ASYNC_FRAMED, partial(rules.ask, journal)) if issubclass(kind, Yield) else None
        family = kind.__kind__
        own = self._own(kind, live) if family is Kind.CONTROL else None
        if own is not None:
            return own
        if rules.only is not None and family in (Kind.LOCAL, Kind.RECORDED) and not issubclass(kind, rules.only):
            family = Kind.UNLOGGED
        codec = codec_of(kind)
        if family is Kind.UNLOGGED:
            return _unlogged(live)
        if not live.is_async and codec.names & self._cut_off:
            live = awaited(live)
        if family is Kind.DERIVED:
            return derived(codec, live, journal)
        if family is Kind.LOCAL or (family is Kind.CONTROL and not issubclass(kind, Yield)):
            return Local(codec, live, journal).route()
        return external(codec, live, journal)

    def _own(self, kind: type[Effect[Any]], live: Route) -> Route | None:
        """The route of *kind*, where it has a rule of its own."""
        journal = self.journal
        if kind.__kind__ is not Kind.CONTROL:
            return None
        if issubclass(kind, Opening):
            return concurrent(kind, journal, self.beside, prune=self.rules.prune_branches)
        rules: dict[type[Effect[Any]], Callable[[Any], Route]] = {
            Begin: lambda _: transaction(live, journal),
            Sleep: lambda _: sleeping(journal),
            TaskEffect: lambda kind: asking(kind, journal),
            ChannelEffect: lambda kind: channelling(kind, journal),
            AtomicEffect: lambda kind: atomic(kind, live, journal),
        }
        return next((make(kind) for family, make in rules.items() if issubclass(kind, family)), None)


def derived(codec: Codec, live: Route, journal: Journal) -> Route:
    """Computed from seed and id: the entry keeps the id."""
    function, again = caller(live), caller(live.below or live)
    path = "" if live.scope is None else live.scope.path

    def place(effect: Effect[Any], frame: Frame) -> tuple[Entry, Callable[[Effect[Any], Frame], Any]]:
        data = journal.data(codec, effect, frame)
        entry = journal.match(codec, data, frame)
        frame.place.replayed = is_replay = entry is not None
        if entry is None:
            journal.spend(frame)
            entry = Entry(journal.new_id(frame), codec.sig, data, scope=path)
            journal.add(entry)
        frame.place.entry_id = entry.id
        return entry, again if is_replay else function

    def record(effect: Effect[Any], frame: Frame) -> Any:
        _, perform = place(effect, frame)
        return perform(effect, frame)

    async def record_async(effect: Effect[Any], frame: Frame) -> Any:
        entry, perform = place(effect, frame)
        await wait_where_given_up(entry, frame)
        try:
            return await settled(perform(effect, frame))
        except anyio.get_cancelled_exc_class():
            give_up(entry, frame, journal)
            raise

    if live.is_async:
        return Route(ASYNC_FRAMED, record_async, live.scope)
    return Route(SYNC_FRAMED, record, live.scope)


def _unlogged(live: Route) -> Route:
    function = caller(live)

    def pass_on(effect: Effect[Any], frame: Frame) -> Any:
        frame.place.entry_id = None
        return function(effect, frame)

    return Route(ASYNC_FRAMED if live.is_async else SYNC_FRAMED, pass_on, live.scope)
