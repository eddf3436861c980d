"""External effects: answered from the log where they were settled, else called.

Where somebody stores the log, he is asked before the call and told after it: control comes back to the body when what
was settled is kept. In a transaction it is kept with the commit, and not before.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from msgspec import UNSET, Raw

from skuld_async._chain import caller
from skuld_async._context import is_cancelled
from skuld_async._effect import Kind
from skuld_async._errors import EffectError, OutcomeUnknown, ResultError
from skuld_async._frames import NOTHING
from skuld_async._misuse import MisuseError
from skuld_async._retry import cause_of, noted
from skuld_async._scopes import ASYNC_FRAMED, SYNC_FRAMED, Route
from skuld_async._signals import Fault, RunCancel, Signal, Suspend, TaskFailed
from skuld_async._strand import stopped

from .attempts import Series
from .replaying import perform_nested, refuse_after_failure, wait_where_given_up

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async._effect import Effect
    from skuld_async._frames import Frame
    from skuld_async._strand import Strand

    from .codec import Codec
    from .entry import Entry
    from .journal import Journal
    from .keeping import Keeper


def external(codec: Codec, live: Route, journal: Journal) -> Route:
    """The route of an external effect, or of a recorded one."""
    kind, is_careful = codec.kind, False
    if kind.__kind__ is not Kind.RECORDED:
        is_careful = kind.__retry__ is not None or kind.__at_most_once__ or journal.book.keeper is not None
    if live.is_async or is_careful:
        return external_async(codec, live, journal)
    return external_sync(codec, live, journal)


def external_sync(codec: Codec, live: Route, journal: Journal) -> Route:
    """Answered from the log; called where it was not settled yet."""
    function = caller(live)
    answer_at_once = answering(codec, journal) if journal.remaining else None
    is_recorded = codec.kind.__kind__ is Kind.RECORDED

    def record(effect: Effect[Any], frame: Frame) -> Any:
        if answer_at_once and journal.remaining and (answer := answer_at_once(effect, frame)) is not NOTHING:
            return answer
        entry = journal.begin(codec, effect, frame)
        if entry.state != "started":
            perform_nested(entry, journal, frame.table.scope)
            return journal.replayed(codec, entry)
        if is_recorded:
            journal.book.is_unstable = True
        try:
            value = function(effect, frame)
        except Exception as error:
            seen = journal.discard(codec, entry, error)
            raise seen from seen.__cause__
        return journal.settle(codec, entry, value)

    return Route(SYNC_FRAMED, record, live.scope)


def awaited(live: Route) -> Route:
    """*live*, of a sync handler, as an async one."""
    function = caller(live)

    async def perform(effect: Effect[Any], frame: Frame) -> Any:
        return function(effect, frame)

    return Route(ASYNC_FRAMED, perform, live.scope)


def external_async(codec: Codec, live: Route, journal: Journal) -> Route:  # noqa: C901, PLR0915 - each way it may end
    """As `external_sync`, in a cancel scope of its own, so that host, run and body cancels are told apart."""
    kind = codec.kind
    function = caller(live if live.is_async else awaited(live))
    answer_at_once = answering(codec, journal) if journal.remaining else None
    is_recorded, once = kind.__kind__ is Kind.RECORDED, kind.__at_most_once__
    keeper = None if is_recorded else journal.book.keeper
    series = None if kind.__retry__ is None else Series(codec, caller(live), journal, is_async=live.is_async)
    begin = partial(begin_once, journal) if once else journal.begin

    async def record(effect: Effect[Any], frame: Frame) -> Any:  # noqa: C901, PLR0912, PLR0915
        if answer_at_once and journal.remaining and (answer := answer_at_once(effect, frame)) is not NOTHING:
            return answer
        entry = begin(codec, effect, frame)
        if entry.state != "started":
            perform_nested(entry, journal, frame.table.scope)
            await wait_where_given_up(entry, frame)
            if once and not frame.place.replayed and keeper is not None:
                await keep(keeper, entry, journal, frame)
            return replayed(codec, entry, journal) if entry.attempts else journal.replayed(codec, entry)
        if is_recorded:
            journal.book.is_unstable = True
        strand = frame.strand
        while True:
            if series is not None and entry.deadline is not UNSET:
                refuse_after_failure(entry, frame, journal)
                if stopped(frame) is not None:
                    raise interruption(entry, strand, journal)
                await series.pause(entry, frame)
            if strand.tasks:
                refuse_after_failure(entry, frame, journal)
            outer = strand.in_flight
            value, returned, scope = None, False, strand.crew.new_scope()
            failure: Exception | None = None
            try:
                with scope:
                    strand.in_flight = scope
                    if keeper is not None and not journal.units:
                        await keeper.before_call(started=once)
                    if series is None:
                        value = await function(effect, frame)
                    else:
                        value = await series.perform(effect, frame, entry)
                    returned = True
            except anyio.get_cancelled_exc_class() as cancelled:
                if not is_cancelled():
                    failure = EffectError("asyncio.exceptions:CancelledError", "what the call waited for was cancelled")
                    failure.__cause__ = cancelled
                else:
                    journal.abandon(entry, "body-scope")
                    if keeper is not None:
                        await keep(keeper, entry, journal, frame)
                    raise
            except Signal as signal:
                if isinstance(signal, RunCancel):
                    journal.stop(entry, signal)
                raise
            except Exception as error:
                if scope.cancel_called:  # what the call made of being stopped is no answer of its receiver
                    raise interruption(entry, strand, journal) from error
                failure = error
            finally:
                strand.in_flight = outer
            if failure is None:
                break
            if series is None or not await series.failed(failure, entry, frame):
                break
            if keeper is not None:
                await keep(keeper, entry, journal, frame)
        if failure is not None:
            failure = journal.discard(codec, entry, failure if series is None else cause_of(failure))
            if entry.attempts:
                noted(failure, len(entry.attempts) + 1)
            if keeper is not None:
                await keep(keeper, entry, journal, frame)
            raise failure from failure.__cause__
        if scope.cancel_called and returned and isinstance(strand.sticky, TaskFailed):
            strand.sticky = None  # the answer came first: the next request that waits is refused
        elif scope.cancel_called:
            if returned:  # all the same: the answer is kept, and the run stops behind it
                with suppress(ResultError):
                    journal.settle(codec, entry, value)
            raise interruption(entry, strand, journal)
        if keeper is None:
            return journal.settle(codec, entry, value)
        try:
            return journal.settle(codec, entry, value)
        finally:
            await keep(keeper, entry, journal, frame)

    return Route(ASYNC_FRAMED, record, live.scope)


class _Keeping:
    """A strand that waits until what it has settled is kept."""

    gives_way = False
    """A failed task comes after what was settled."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope(shield=True)

    def interrupt(self, signal: Signal) -> None:
        """Who suspends the run does not wait for its store; in a run that is cancelled its answers are kept first."""
        if not isinstance(signal, RunCancel):
            self.scope.cancel()

    def strands(self) -> Sequence[Strand]:
        """None: it waits for nobody."""
        return []


async def keep(keeper: Keeper, entry: Entry, journal: Journal, frame: Frame) -> None:
    """Come back when what was written into *entry* is kept; raises the signal that has stopped the strand meanwhile.

    A scope of the body does not cut it off: the body sees that it was settled, and so does each replay.
    """
    if journal.units:
        return
    strand = frame.strand
    strand.waiting = keeping = _Keeping()
    try:
        with keeping.scope:
            await keeper.settled(entry)
    finally:
        strand.waiting = None
    if stopped(frame) is not None and not isinstance(strand.sticky, TaskFailed):
        raise interruption(entry, strand, journal)


def interruption(entry: Entry, strand: Strand, journal: Journal) -> Signal:
    """The signal for whose sake the call of *entry* was cancelled."""
    signal = strand.sticky
    if isinstance(signal, RunCancel) and entry.state == "started":
        journal.stop(entry, signal)
    return signal or Suspend()


def begin_once(journal: Journal, codec: Codec, effect: Effect[Any], frame: Frame) -> Entry:
    """As `Journal.begin`, of what is called at most once: what an earlier session has begun is given up here."""
    data = journal.data(codec, effect, frame)
    entry = journal.match(codec, data, frame)
    if journal.units and (entry is None or entry.state == "started"):
        problem = f"{codec.label} is called at most once, and {frame.line()} is inside a transaction, which may be "
        problem += "performed again.\n\n  call it before or after transact(...)"
        raise Fault(MisuseError(problem))
    if entry is None:
        return journal.begin(codec, effect, frame)
    place = frame.place
    place.entry_id, place.replayed = entry.id, entry.state != "started"
    if entry.state == "started":
        journal.spend(frame, entry)
        key = f"{journal.log.header.run}/{entry.id}"
        journal.discard(codec, entry, OutcomeUnknown(codec.label, key))
    return entry


def replayed(codec: Codec, entry: Entry, journal: Journal) -> Any:
    """What became of a call that was tried again."""
    if entry.state == "executed":
        return journal.value(codec, entry)
    error = journal.error(codec, entry)
    raise noted(error, len(entry.attempts) + 1) if isinstance(error, Exception) else error


def answering(codec: Codec, journal: Journal) -> Callable[[Effect[Any], Frame], Any]:
    """The short path of a replay: the logged answer where the next entry is this request, byte for byte, else NOTHING.

    It is taken by entries without nested ones, and gives way to the long one at everything that is out of the ordinary.
    """
    entries, sig, constant = journal.entries, codec.sig, codec.constant
    encode, decode = codec.encode, codec.answer.decode

    def answer(effect: Effect[Any], frame: Frame) -> Any:
        remaining = journal.remaining
        entry = entries[-remaining]
        if entry.state != "executed" or entry.sig != sig:
            return NOTHING
        try:
            # What is equal to the logged request was checked when that was logged.
            if entry.data != (Raw(encode(effect)) if constant is None else constant):
                return NOTHING
            if remaining > 1:
                entry_id, next_id = entry.id, entries[1 - remaining].id
                if next_id.startswith(entry_id) and next_id[len(entry_id)] == "/":
                    return NOTHING
            value = decode(entry.value)
        except (ValueError, TypeError, RecursionError):
            return NOTHING
        journal.remaining = remaining - 1
        place = frame.place
        place.entry_id, place.replayed = entry.id, True
        return value

    return answer
