"""always_cold: the same run, stopped and resumed at every effect, must come to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import TypeVar, Unpack

from skuld_async._declared import encode_canonical
from skuld_async._effect import Kind
from skuld_async._errors import DeploymentError, SkuldError
from skuld_async.log import verbs
from skuld_async.log.book import strand_of
from skuld_async.log.identity import identify
from skuld_async.log.log import Log
from skuld_async.log.outcome import Completed, Failed, Suspended
from skuld_async.log.questions import Answer

from .clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async._computation import Computation
    from skuld_async._effect import Observation
    from skuld_async._handler import Handler
    from skuld_async.log.entry import Entry
    from skuld_async.log.options import Options
    from skuld_async.log.outcome import Outcome

T = TypeVar("T")

_RUN, _SEED = "always-cold", "0"
_STUCK = 100
"""Live effects after which a run that makes no progress is given up."""


class ColdMismatchError(SkuldError, AssertionError):
    """The run that was resumed at every effect came to something else than the straight one."""

    def __init__(self, what: str, straight: str, cold: str) -> None:
        super().__init__(what, straight, cold)
        self.what = what
        self.straight = straight
        self.cold = cold

    def __str__(self) -> str:
        return f"resumed at every effect, {self.what} is another:\n  straight  {self.straight}\n  cold      {self.cold}"


async def always_cold(
    comp: Computation[T],
    *handlers: Handler,
    answer: Callable[[Any], Any] | None = None,
    fresh: Callable[[], Sequence[Handler]] | None = None,
    **options: Unpack[Options],
) -> Outcome[T]:
    """Run *comp* twice: straight, and so that it suspends, is encoded, decoded and resumed at every effect.

    Both runs must agree in outcome, state, events and log, and the cold one must perform each effect live once. A
    virtual clock is in scope; each run has the same id and seed.

    Args:
        comp: The computation.
        handlers: The outermost scope of both runs.
        answer: Gives the answer to a question.
        fresh: Makes more handlers, once for each run: for fakes that have state of their own.
        **options: See `Options`.

    Returns:
        The outcome of the cold run.

    Raises:
        ColdMismatchError: The two runs differ.
    """
    once, live = _Live(options), _Live(options)
    clock = VirtualClock()
    straight = await _straight(comp, _scope(clock, handlers, fresh), answer, clock, once)
    clock = VirtualClock()
    cold = await _cold(comp, _scope(clock, handlers, fresh), answer, clock, live, most=len(once.ids))
    _compare(straight, cold)
    twice = sorted({one for one in live.ids if live.ids.count(one) > 1})
    if twice:
        what = "the number of live calls"
        raise ColdMismatchError(what, "one for each effect", f"{', '.join(twice)} more than once")
    return cold


def _scope(
    clock: VirtualClock, handlers: Sequence[Handler], fresh: Callable[[], Sequence[Handler]] | None
) -> tuple[Handler, ...]:
    return (clock.handler(), *handlers, *(fresh() if fresh is not None else ()))


class _Live:
    """The effects that a run performed, by id; unlogged ones, which each replay performs, do not count."""

    def __init__(self, options: Options) -> None:
        self.ids: list[str] = []
        self.options: Options = {**options, "observe": (*options.get("observe", ()), self._note)}
        self._unlogged = {Kind.UNLOGGED, *((Kind.LOCAL, Kind.RECORDED) if "effects" in options else ())}

    def _note(self, observation: Observation) -> None:
        is_settled = observation.error is None or isinstance(observation.error, Exception)
        is_logged = type(observation.request.effect).__kind__ not in self._unlogged
        if is_settled and is_logged and not observation.replayed:
            self.ids.append(observation.request.id)


async def _straight(
    comp: Computation[T],
    handlers: tuple[Handler, ...],
    answer: Callable[[Any], Any] | None,
    clock: VirtualClock,
    live: _Live,
) -> Outcome[T]:
    async with verbs.open_session(comp, *handlers, id=_RUN, seed=_SEED, **live.options) as session:
        outcome = await session.outcome()
        while isinstance(outcome, Suspended):
            if outcome.wait is not None:
                await session.answer(_answer_to(outcome, answer), to=outcome.wait)
            elif outcome.wake_at is not None:
                clock.advance(outcome.wake_at - clock.now)
            else:
                break
            outcome = await session.outcome()
        return outcome


async def _cold(
    comp: Computation[T],
    handlers: tuple[Handler, ...],
    answer: Callable[[Any], Any] | None,
    clock: VirtualClock,
    live: _Live,
    *,
    most: int,
) -> Outcome[T]:
    log = Log()
    log.header.run, log.header.seed = _RUN, _SEED
    identify(log, comp)
    given: list[Answer] = []
    budget = 1

    while True:
        if len(live.ids) > most:  # it may never end
            what = "the number of effects"
            raise ColdMismatchError(what, str(most), f"{live.ids[-1]} and more")
        before = log.to_json()
        async with verbs.open_log(comp, log, handlers, live.options, answers=given, budget=budget) as session:
            outcome: Outcome[T] = await session.outcome()
        if not isinstance(outcome, Suspended):
            return outcome
        log = Log.from_msgpack(Log.from_json(outcome.log.to_json()).to_msgpack())
        is_paused = session.has_budget  # no strand stopped because it may do no more
        if log.to_json() != before:
            given, budget = [], 1
        elif is_paused and not given and outcome.wait is not None:
            given, budget = [Answer(_answer_to(outcome, answer), outcome.wait)], 1
        elif is_paused and not given and outcome.wake_at is not None:
            clock.advance(outcome.wake_at - clock.now)
            budget = 1
        elif budget < _STUCK:
            budget += 1  # a handler that requests effects itself starts anew in each step: one more, until it gets on
        else:
            message = f"the run makes no progress at {log.entries[-1].id if log.entries else 'its start'}"
            stuck = DeploymentError(message)
            stuck.log = log
            raise stuck


def _answer_to(outcome: Suspended, answer: Callable[[Any], Any] | None) -> Any:
    if answer is None:
        message = f"the computation asks {outcome.question!r}: pass always_cold(..., answer=lambda question: ...)"
        raise AssertionError(message)
    return answer(outcome.question)


def _compare(straight: Outcome[Any], cold: Outcome[Any]) -> None:
    def same(what: str, left: object, right: object) -> None:
        if left != right:
            raise ColdMismatchError(what, repr(left), repr(right))

    if type(straight) is not type(cold):
        raise ColdMismatchError("the outcome", *(_named(outcome) for outcome in (straight, cold)))
    if isinstance(straight, Completed) and isinstance(cold, Completed):
        same("the value", straight.value, cold.value)
    if isinstance(straight, Failed) and isinstance(cold, Failed):
        same("the error", f"{straight.error!r}", f"{cold.error!r}")
    same("the state", dict(straight.cells), dict(cold.cells))
    same("the number of entries", len(straight.log.entries), len(cold.log.entries))
    for left, right in zip(*(by_strand(one.log) for one in (straight, cold)), strict=True):
        same(f"entry {left.id}", shown(left), shown(right))


def by_strand(log: Log) -> list[Entry]:
    """The entries of one strand after those of another: which of several is faster does not matter."""
    return sorted(log.entries, key=lambda entry: strand_of(entry.id))


def _named(outcome: Outcome[Any]) -> str:
    name = type(outcome).__name__
    return f"{name}: {outcome.error!r}" if isinstance(outcome, Failed) else name


def shown(entry: Any) -> tuple[str, ...]:
    """What of an entry is the same in each run, whatever the order of a set."""
    return (entry.id, entry.sig, bytes(entry.data).decode(), entry.state)


def shown_value(outcome: Outcome[Any]) -> str:
    """The result, the same whatever the order of a set; nothing where there is none."""
    return encode_canonical(outcome.value).decode() if isinstance(outcome, Completed) else ""
