"""Promise 8.6 without a log: how often a call is tried, and when again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Protocol

import anyio
import pytest

from skuld_async import (
    Command,
    DeclarationError,
    Effect,
    Effectful,
    Handler,
    Observation,
    Perform,
    Port,
    Request,
    Retry,
    RetryAfter,
    Return,
    State,
    Yield,
    computation,
    current_call,
    operation,
    port,
    run,
    with_timeout,
)
from skuld_async.testing import VirtualClock

SECOND = timedelta(seconds=1)
AT_ONCE = Retry(3, backoff=timedelta())
STEADY = Retry(3, jitter=0)


class Declined(Exception):
    """What a receiver answers."""


class Broken(Exception):
    """What goes wrong on the way."""


class BadlyBroken(Broken):
    pass


class Fetch(Effect[str], frozen=True):
    name: str = "it"

    __retry__: ClassVar[Retry | None] = AT_ONCE


class Send(Effect[str], frozen=True, tag=True, kw_only=True):
    to: str
    cc: tuple[str, ...] = ()


class Ship(Command[str], frozen=True):
    order: int

    __retry__: ClassVar[Retry | None] = AT_ONCE


class Carrier(Port, Protocol):
    @operation(retry=AT_ONCE, raises=[Declined])
    async def ship(self, order: int) -> str: ...


@port(retry=AT_ONCE)
async def quote(item: str) -> str:
    raise Broken(item)


class Flaky:
    """Fails until it has been called *good* times; keeps which attempts there were, and under which keys."""

    def __init__(self, good: int, error: Callable[[], Exception] = Broken) -> None:
        self.good = good
        self.error = error
        self.attempts: list[int] = []
        self.keys: list[str] = []

    def now(self, _: object) -> str:
        call = current_call()
        self.attempts.append(call.attempt)
        self.keys.append(call.key)
        if len(self.attempts) < self.good:
            raise self.error()
        return "done"

    async def later(self, effect: object) -> str:
        await anyio.lowlevel.checkpoint()
        return self.now(effect)

    async def ship(self, order: int) -> str:
        return await self.later(order)

    async def quote(self, item: str) -> str:
        return await self.later(item)


@computation
async def asking(effect: Effect[str]) -> Effectful[str]:
    answer = yield effect
    yield Return(answer)


WAYS: dict[str, tuple[Effect[str], Callable[[Flaky], Handler]]] = {
    "effect": (Fetch(), lambda it: Fetch.handled_by(it.later)),
    "sync handler": (Fetch(), lambda it: Fetch.handled_by(it.now)),
    "command": (Ship(1).execute(), lambda it: Ship.handled_by(it.later)),
    "operation": (Carrier.ship(1), Carrier.handler),
    "port": (quote("pen"), lambda it: quote.handled_by(it.quote)),
    "call": (Send(to="you").retried(AT_ONCE), lambda it: Send.handled_by(it.later)),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_is_tried_again(way: str) -> None:
    """8.6 A policy per effect, command, operation, port or call: it is tried again under one key, counted from 1."""
    effect, handled = WAYS[way]
    flaky = Flaky(3)
    assert await run(asking(effect), handled(flaky)) == "done"
    assert flaky.attempts == [1, 2, 3]
    assert len(set(flaky.keys)) == 1


async def test_the_last_error_is_raised() -> None:
    """8.6 When the attempts are used up, the last error is raised at the line, and says how many they were."""
    flaky = Flaky(9)
    with pytest.raises(Broken) as caught:
        await run(asking(Fetch()), Fetch.handled_by(flaky.later))
    assert flaky.attempts == [1, 2, 3]
    assert caught.value.__notes__[0] == "after 3 attempts"


async def test_one_attempt_is_one_call() -> None:
    """8.6 An error of the first attempt that is not to be retried arrives as without a policy."""
    flaky = Flaky(9)
    with pytest.raises(Broken) as caught:
        await run(asking(Fetch().retried(Retry(1))), Fetch.handled_by(flaky.later))
    assert flaky.attempts == [1]
    assert not [note for note in caught.value.__notes__ if "attempts" in note]


@pytest.mark.parametrize(
    ("policy", "error", "attempts"),
    [
        pytest.param(Retry(2, timedelta(), retry_on=[Broken]), BadlyBroken, 2, id="derived"),
        pytest.param(Retry(2, timedelta(), retry_on=[BadlyBroken]), Broken, 1, id="another one"),
        pytest.param(Retry(2, timedelta(), give_up_on=[BadlyBroken]), BadlyBroken, 1, id="given up"),
        pytest.param(Retry(2, timedelta(), give_up_on=[BadlyBroken]), Broken, 2, id="not given up"),
        pytest.param(Retry(2, timedelta()), Declined, 1, id="declared"),
        pytest.param(Retry(2, timedelta(), retry_on=[Exception, Declined]), Declined, 2, id="declared and named"),
        pytest.param(Retry(2, timedelta(), retry_on=[TimeoutError]), lambda: RetryAfter(0), 2, id="retry after"),
    ],
)
async def test_which_errors_are_retried(policy: Retry, error: Callable[[], Exception], attempts: int) -> None:
    """8.6 By exception: those of `retry_on` but not of `give_up_on`, and declared ones only where they are named."""
    flaky = Flaky(9, error)
    with pytest.raises(type(error())):
        await run(asking(Carrier.ship(1).retried(policy)), Carrier.handler(flaky))
    assert len(flaky.attempts) == attempts


async def test_waits_go_by_the_clock_in_scope() -> None:
    """8.6 Each wait is as long as the policy says, by the clock that the run sees: 1, 2 seconds, then its longest."""
    clock = VirtualClock()
    flaky = Flaky(5)
    at: list[float] = []

    async def fetch(effect: Fetch) -> str:
        at.append((clock.now - began).total_seconds())
        return await flaky.later(effect)

    began = clock.now
    policy = Retry(5, jitter=0, longest=3 * SECOND)
    async with anyio.create_task_group() as group:
        group.start_soon(run, asking(Fetch().retried(policy)), clock.handler(), Fetch.handled_by(fetch))
        for _ in range(100):
            await anyio.wait_all_tasks_blocked()
            clock.advance(SECOND / 10)
    assert at == pytest.approx([0, 1, 3, 6, 9])


async def test_the_receiver_says_when() -> None:
    """8.6 `RetryAfter` sets the wait, whatever the policy says, and counts as an attempt."""
    clock = VirtualClock()
    flaky = Flaky(2, lambda: RetryAfter(timedelta(hours=2)))
    async with anyio.create_task_group() as group:
        group.start_soon(run, asking(Fetch()), clock.handler(), Fetch.handled_by(flaky.later))
        await anyio.wait_all_tasks_blocked()
        clock.advance(timedelta(hours=2) - SECOND)
        await anyio.wait_all_tasks_blocked()
        assert flaky.attempts == [1]
        clock.advance(SECOND)
    assert flaky.attempts == [1, 2]


async def test_what_a_retry_after_stands_for() -> None:
    """8.6 The error that a `RetryAfter` was raised from is the one that arrives when the attempts are used up."""

    async def fetch(_: Fetch) -> str:
        raise RetryAfter(0) from Broken("busy")

    async def fetch_with_cause(_: Fetch) -> str:
        raise RetryAfter(0, Broken("busy"))

    async def fetch_without(_: Fetch) -> str:
        raise RetryAfter(0)

    for one in (fetch, fetch_with_cause):
        with pytest.raises(Broken, match="busy"):
            await run(asking(Fetch()), Fetch.handled_by(one))
    with pytest.raises(RetryAfter, match="tried again in 0 s"):
        await run(asking(Fetch()), Fetch.handled_by(fetch_without))


def test_how_long_a_retry_after_is() -> None:
    """8.6 It takes a time span or seconds; a time that is past is now, and one beyond all time is the end of it."""
    assert RetryAfter(90).wait == RetryAfter(timedelta(minutes=1.5)).wait == timedelta(seconds=90)
    assert RetryAfter(-1).wait == RetryAfter(float("nan")).wait == timedelta()
    assert RetryAfter(float("inf")).wait == RetryAfter(1e300).wait == timedelta.max


async def test_an_attempt_has_its_time() -> None:
    """8.6 Each attempt has the policy's `timeout`: then it is cancelled, and has failed with `TimeoutError`."""
    started: list[float | None] = []

    async def hang(_: Fetch) -> str:
        started.append(current_call().deadline)
        if len(started) < 2:
            await anyio.sleep_forever()
        return "done"

    policy = Retry(2, timedelta(), timeout=timedelta(milliseconds=10))
    assert await run(asking(Fetch().retried(policy)), Fetch.handled_by(hang)) == "done"
    first, second = started
    assert first is not None
    assert second is not None
    assert second - first >= 0.01

    started.clear()
    with pytest.raises(TimeoutError, match=r"longer than 0\.01 s"):
        await run(asking(Fetch().retried(Retry(1, timeout=policy.timeout))), Fetch.handled_by(hang))


async def test_no_attempt_no_deadline() -> None:
    """8.6 Without a policy, and outside of the call that has one, a call is the first attempt and has no deadline."""
    seen: list[tuple[int, float | None]] = []

    async def send(effect: Send) -> str:
        seen.append((current_call().attempt, current_call().deadline))
        return effect.to

    async def fetch(_: Fetch) -> str:
        seen.append((current_call().attempt, current_call().deadline))
        await Send(to="inner")
        if len(seen) < 3:
            raise Broken
        return "done"

    @computation
    async def both() -> Effectful[str]:
        yield Fetch()
        last = yield Send(to="after")
        yield Return(last)

    await run(both(), Fetch.handled_by(fetch), Send.handled_by(send))
    assert seen == [(1, None), (1, None), (2, None), (1, None), (1, None)]


async def test_a_handler_requests_under_the_same_keys() -> None:
    """6.2 What a handler requests has the same keys in each attempt."""
    flaky = Flaky(3)

    async def fetch(_: Fetch) -> str:
        return await Send(to="inner")

    await run(asking(Fetch()), Fetch.handled_by(fetch), Send.handled_by(flaky.later))
    assert len(flaky.keys) == 3
    assert len(set(flaky.keys)) == 1


async def test_a_policy_of_none() -> None:
    """8.6 `retried(None)` takes the policy of the operation off one call."""
    flaky = Flaky(2)
    with pytest.raises(Broken):
        await run(asking(Fetch().retried(None)), Fetch.handled_by(flaky.later))


async def test_observers_are_told_once() -> None:
    """5.11 However often it was tried, a request is settled once; interceptors see each attempt."""
    told: list[Observation] = []
    passed: list[str] = []

    async def intercept(request: Request, perform: Perform, /) -> Any:
        passed.append("attempt")
        return await perform(request)

    flaky = Flaky(3)
    await run(
        asking(Fetch()),
        Fetch.handled_by(flaky.later),
        observe=[told.append],
        intercept=[intercept],
    )
    assert [(one.answer, one.replayed) for one in told] == [("done", False)]
    assert passed == ["attempt"] * 3


async def test_a_wait_can_be_cancelled() -> None:
    """8.6 A scope of the body, and a branch's end, end the wait for the next attempt."""
    flaky = Flaky(9)

    @computation
    async def hurried() -> Effectful[str]:
        with anyio.move_on_after(0.01):
            yield Fetch().retried(Retry(9, timedelta(hours=1), jitter=0))
        yield Return("gave up")

    assert await run(hurried(), Fetch.handled_by(flaky.later)) == "gave up"
    timed = with_timeout(Fetch().retried(Retry(9, timedelta(hours=1), jitter=0)), timedelta(milliseconds=10))
    await run(timed, Fetch.handled_by(flaky.later))
    assert flaky.attempts == [1, 1]


def test_the_same_request() -> None:
    """8.6 `retried` keeps class, fields and names; the effect of a policy that is given twice is the same."""
    effect = Send(to="you", cc=("me",))
    again = effect.retried(AT_ONCE)
    assert isinstance(again, Send)
    assert (again.to, again.cc, repr(again)) == (effect.to, effect.cc, repr(effect))
    assert again == effect.retried(Retry(3, backoff=timedelta()))
    assert again.retried(STEADY) == effect.retried(STEADY)
    assert (type(again).__sig__, type(again).__struct_config__.tag) == (Send.__sig__, Send.__struct_config__.tag)


def test_waits_grow_up_to_the_longest() -> None:
    """8.6 Without chance a wait is `factor` times the one before, and never exceeds `longest`."""
    policy = Retry(9, backoff=SECOND, factor=3, longest=timedelta(seconds=10), jitter=0)
    assert [policy.wait(number, "", "").total_seconds() for number in range(1, 6)] == [1, 3, 9, 10, 10]
    assert Retry(9, factor=1, jitter=0).wait(8, "", "") == SECOND
    assert Retry(10**9, jitter=0).wait(10**9, "", "") == timedelta(minutes=5)


def test_chance_is_the_run_s_own() -> None:
    """8.6 Chance takes off up to all of a wait: another part for each run, entry and attempt, and never anew."""
    policy = Retry(3)
    waits = [policy.wait(1, f"seed {number}", "0/1").total_seconds() for number in range(200)]
    assert waits == [policy.wait(1, f"seed {number}", "0/1").total_seconds() for number in range(200)]
    assert len(set(waits)) == 200
    assert 0 < min(waits) < 0.05
    assert 0.95 < max(waits) <= 1
    assert len({policy.wait(1, "seed", f"0/{number}") for number in range(50)}) == 50
    assert policy.wait(2, "seed", "0/1") != 2 * policy.wait(1, "seed", "0/1")
    half = [Retry(3, jitter=0.5).wait(1, f"{number}", "0/1").total_seconds() for number in range(200)]
    assert 0.5 <= min(half) < 0.55
    assert policy.wait(1, "seed", "0/1").total_seconds() == pytest.approx(0.083135, abs=1e-6)


untyped: Any = Retry
untyped_port: Any = port


@pytest.mark.parametrize(
    ("declare", "problem"),
    [
        pytest.param(lambda: Retry(0), "the first attempt counts too", id="attempts"),
        pytest.param(lambda: untyped(2.5), "the first attempt counts too", id="half"),
        pytest.param(lambda: untyped(2, 1), r"backoff=1\): this is no time span", id="backoff"),
        pytest.param(lambda: Retry(2, -SECOND), "less than no time", id="negative"),
        pytest.param(lambda: Retry(2, factor=0.5), "never shorter", id="factor"),
        pytest.param(lambda: Retry(2, jitter=2), "a part of the wait", id="jitter"),
        pytest.param(lambda: untyped(2, retry_on=Broken), "no classes of errors", id="one class"),
        pytest.param(lambda: untyped(2, give_up_on=[BaseException]), "no classes of errors", id="signals"),
        pytest.param(lambda: untyped(2, timeout=5), r"timeout=5\): this is no time span", id="timeout"),
        pytest.param(lambda: untyped_port(retry=5)(quote.function), "quote: 5 is no policy", id="no policy"),
        pytest.param(lambda: port(retry=AT_ONCE, at_most_once=True)(quote.function), "at most once", id="once"),
        pytest.param(lambda: State("n", int).get().retried(AT_ONCE), "leaves the process alone", id="local"),
        pytest.param(lambda: Yield.of(1).retried(AT_ONCE), "leaves the process alone", id="question"),
    ],
)
def test_what_cannot_work_is_refused(declare: Callable[[], object], problem: str) -> None:
    """8.6 A policy that cannot work is refused where it is declared, with a way out."""
    with pytest.raises(DeclarationError, match=problem):
        declare()
