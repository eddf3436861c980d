"""VirtualClock: time that passes when a test says so."""

from datetime import UTC, datetime, timedelta, timezone

from skuld_async import Clock, Completed, Effectful, Return, Suspended, Yield, computation, resume, run, start
from skuld_async.testing import VirtualClock


class Ask(Yield[None], frozen=True):
    pass


@computation
async def waits() -> Effectful[timedelta]:
    began = yield Clock.now()
    yield Ask()
    ended = yield Clock.now()
    yield Return(ended - began)


async def test_it_stands_still() -> None:
    """Its time is what was set, again and again; midnight of 2000-01-01 UTC if nothing was."""

    @computation
    async def reads() -> Effectful[list[datetime]]:
        first = yield Clock.now()
        second = yield Clock.now()
        yield Return([first, second])

    beginning = datetime(2000, 1, 1, tzinfo=UTC)
    assert await run(reads(), VirtualClock().handler()) == [beginning, beginning]
    later = datetime(2031, 2, 3, 4, 5, 6, 789, tzinfo=timezone(timedelta(hours=2)))
    assert await run(reads(), VirtualClock(later).handler()) == [later, later]


async def test_it_advances_when_it_is_told() -> None:
    """A test of a deadline of a week takes no week; what was read before stays what it was."""
    clock = VirtualClock()
    outcome = await start(waits(), clock.handler())
    assert isinstance(outcome, Suspended)
    clock.advance(timedelta(days=7))
    ended = await resume(waits(), outcome.log, clock.handler(), answer=None)
    assert isinstance(ended, Completed)
    assert ended.value == timedelta(days=7)
    assert clock.now == datetime(2000, 1, 8, tzinfo=UTC)


async def test_two_handlers_of_one_clock_show_one_time() -> None:
    """The handler shows the clock; the clock belongs to the test."""
    clock = VirtualClock()
    first, second = clock.handler(), clock.handler()
    clock.advance(timedelta(hours=1))

    @computation
    async def reads() -> Effectful[datetime]:
        now = yield Clock.now()
        yield Return(now)

    assert await run(reads(), first) == await run(reads(), second) == clock.now
