"""Sleeps, timeouts and the waits between attempts: kept in the store, and woken by it, wherever the run is then."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import anyio
import pytest

from skuld_async import (
    AnswerError,
    Clock,
    Effectful,
    Parallel,
    Port,
    Retry,
    Return,
    TimedOut,
    TooLateError,
    computation,
    current_call,
    operation,
    with_timeout,
)
from skuld_async.durable import OpenWait
from skuld_async.durable.records import NewAnswer
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock

from .parts import (
    Comment,
    Desk,
    Line,
    Office,
    comment,
    dying,
    open_waits,
    plain,
    put_away,
    runtime,
    stands,
    stored,
    until,
)

Connect = Callable[[], Store]
HOUR = timedelta(hours=1)


@computation
async def sleeper(minutes: int, what: str = "woken") -> Effectful[str]:
    yield Clock.sleep(timedelta(minutes=minutes))
    yield Return((yield Office.do(what)))


@computation
async def within(minutes: int) -> Effectful[str]:
    said = yield Comment("x").within(timedelta(minutes=minutes))
    if isinstance(said, TimedOut):
        said = f"timed out at {said.due:%H:%M}"
    yield Return((yield Office.do(said)))


@computation
async def two_waits(minutes: int) -> Effectful[list[str]]:
    """Two questions with a time, side by side."""
    said: list[str] = yield Parallel.all(within(minutes), within(2 * minutes))
    yield Return(said)


@computation
async def raced() -> Effectful[str]:
    """Two questions against each other."""
    won = yield Parallel.race(a=ask("a"), b=ask("b"))
    yield Return((yield Office.do(f"{won.name} {won.value}")))


@computation
async def ask(about: str) -> Effectful[str]:
    yield Return((yield Comment(about)))


@computation
async def overdue(minutes: int) -> Effectful[str]:
    said = yield with_timeout(ask("x"), timedelta(minutes=minutes))
    yield Return("timed out" if isinstance(said, TimedOut) else said)


class Carrier(Port, Protocol):
    @operation(retry=Retry(3, backoff=HOUR, factor=1, longest=HOUR, jitter=0))
    async def ship(self, what: str) -> str: ...


@computation
async def ships(what: str) -> Effectful[str]:
    yield Return((yield Carrier.ship(what)))


WORKFLOWS = [sleeper, within, two_waits, raced, ask, overdue, ships, plain, comment]


@pytest.mark.parametrize("idle", [0, 10])
async def test_a_sleep_is_over_at_its_time(connect: Connect, idle: float) -> None:
    """A run that sleeps is put away at once, and its view tells until when; it goes on when its time has come."""
    clock, desk = VirtualClock(), Desk()
    async with runtime(connect(), desk, clock.handler(), workflows=WORKFLOWS, idle=idle) as one:
        run = await one.start(sleeper(60), id="one")
        view = await stands(one, "one")
        await put_away(one, "one")
        assert (view.status, (await run.view()).wake_at) == ("suspended", clock.now + HOUR)
        clock.advance(HOUR - timedelta(seconds=1))
        assert (await run.settled(0.05)).status == "suspended"
        assert desk.done == []
        clock.advance(timedelta(seconds=1))
        assert await run.result(10) == "WOKEN"


@pytest.mark.parametrize("idle", [0, 10])
async def test_a_question_has_its_time(connect: Connect, idle: float) -> None:
    """The deadline stands in the inbox; when it has come `TimedOut` is the answer, and a later one is refused."""
    clock, desk = VirtualClock(), Desk()
    async with runtime(connect(), desk, clock.handler(), workflows=WORKFLOWS, idle=idle) as one:
        run = await one.start(within(60))
        (wait,) = await open_waits(one)
        assert wait.deadline == clock.now + HOUR
        clock.advance(HOUR)
        assert await run.result(10) == "TIMED OUT AT 01:00"
        with pytest.raises(TooLateError):
            await one.answer(wait, "late")
        assert (await one.waits()).items == []
        in_time = await one.start(within(60))
        (wait,) = await open_waits(one)
        await one.answer(wait, "said")
        assert await in_time.result(10) == "SAID"


async def test_an_answer_comes_too_late_for_a_question_that_nobody_has_closed(connect: Connect) -> None:
    """Whoever has the run is away: the deadline decides all the same, and the next worker finds nothing."""
    clock, store = VirtualClock(), connect()
    async with runtime(store, Desk(), clock.handler(), workflows=WORKFLOWS, idle=0) as one:
        await one.start(within(60), id="one")
        (wait,) = await open_waits(one)
        await put_away(one, "one")
    clock.advance(HOUR)
    async with runtime(connect(), Desk(), clock.handler(), workflows=[plain]) as other:
        with pytest.raises(TooLateError, match="01:00"):
            await other.answer(wait, "late")
    async with runtime(connect(), Desk(), clock.handler(), workflows=WORKFLOWS) as two:
        assert await two.get("one").result(10) == "TIMED OUT AT 01:00"


async def test_an_accepted_answer_wins_against_the_time(connect: Connect) -> None:
    """It was in time: whenever its owner sees it, in memory or after a restart, the question is not timed out."""
    clock = VirtualClock()
    asked, store = Line(connect()), connect()
    async with dying(asked, Desk(), clock.handler(), workflows=WORKFLOWS, idle=0) as one:
        await one.start(within(60), id="one")
        (wait,) = await open_waits(one)
        await put_away(one, "one")
    async with runtime(store, Desk(), clock.handler(), workflows=[plain]) as other:
        await other.answer(wait, "in time")
    clock.advance(2 * HOUR)
    async with runtime(connect(), Desk(), clock.handler(), workflows=WORKFLOWS) as two:
        assert await two.get("one").result(10) == "IN TIME"
        assert [sent.state for sent in await two.messages("one")] == ["used"]


async def test_the_owner_goes_back_to_an_answer_that_came_first() -> None:
    """The answer is accepted; its owner, who does not know it yet, lets the time be over: that is refused by the store.

    Nothing is called on the strength of the timeout, and the answer is what the body gets.
    """
    clock, desk, store = VirtualClock(), Desk(), MemoryStore()
    line = Line(store)

    async def deaf(name: str, _args: object) -> None:
        if name in ("mail", "inbox"):
            await anyio.sleep_forever()

    async with (
        runtime(line, desk, clock.handler(), workflows=WORKFLOWS, idle=60) as one,
        runtime(store, Desk(), clock.handler(), workflows=[plain]) as other,
    ):
        await one.start(two_waits(60), id="one")
        waits = await open_waits(one, count=2)
        await stands(one, "one")
        line.before = deaf
        await other.answer(min(waits, key=lambda wait: wait.deadline or clock.now), "in time")
        clock.advance(HOUR)
        await desk.at("in time").wait()
        assert desk.done == ["in time"]
        line.before = _hears
        clock.advance(HOUR)
        assert await one.get("one").result(10) == ["IN TIME", "TIMED OUT AT 02:00"]
    assert desk.times == {"in time": 1, "timed out at 02:00": 1}


async def _hears(_name: str, _args: object) -> None:
    pass


async def test_a_race_of_two_answers_has_one_winner() -> None:
    """Both are accepted before the run sees either: one wins, and each answer is told what became of it."""
    store, clock = MemoryStore(), VirtualClock()
    for idle in (0, 60):
        async with runtime(store, Desk(), clock.handler(), workflows=WORKFLOWS, idle=idle) as one:
            run = await one.start(raced(), id=f"{idle}")
            waits = await open_waits(one, run.id, 2)
            if idle:
                async with anyio.create_task_group() as group:
                    for wait in waits:
                        group.start_soon(one.answer, wait, "said")
            else:
                await put_away(one, run.id)
                for wait in waits:
                    await one.store.answer(_answer(wait, clock))
                one._dispatcher.ring()
            assert await run.result(10) in ("A SAID", "B SAID")
            sent = await one.messages(run.id)
            assert sorted(message.state for message in sent) in (["refused", "used"], ["used", "used"])
            assert (await one.waits()).items == []


def _answer(wait: OpenWait, clock: VirtualClock) -> NewAnswer:
    return NewAnswer(wait.run, wait.id, wait.digest, b'"said"', "", clock.now.timestamp())


async def test_a_computation_has_its_time(connect: Connect) -> None:
    """`with_timeout` around a question: its time is over while nobody has the run."""
    clock, store = VirtualClock(), connect()
    async with runtime(store, Desk(), clock.handler(), workflows=WORKFLOWS, idle=0) as one:
        await one.start(overdue(60), id="one")
        (wait,) = await open_waits(one)
        await put_away(one, "one")
    clock.advance(2 * HOUR)
    async with runtime(connect(), Desk(), clock.handler(), workflows=WORKFLOWS, idle=0) as two:
        assert await two.get("one").result(10) == "timed out"
        assert (await two.waits()).items == []
        with pytest.raises(AnswerError):
            await two.answer(wait, "late")


async def test_real_time_passes_too() -> None:
    """By the system's clock: a sleep of a moment, kept in the store, and the next one in memory."""
    for idle in (0, 10):
        async with runtime(MemoryStore(), workflows=[naps], idle=idle) as one:
            begin = datetime.now(UTC)
            assert await (await one.start(naps())).result(10) == "done"
            assert datetime.now(UTC) - begin >= timedelta(seconds=0.2)


@computation
async def naps() -> Effectful[str]:
    for _ in range(2):
        yield Clock.sleep(timedelta(seconds=0.1))
    yield Return("done")


@pytest.mark.parametrize("dies", [False, True])
async def test_the_wait_between_attempts_puts_a_run_away(dies: bool) -> None:
    """8.6 One entry and one key for all attempts; the run is put away in between, and goes on after a crash there."""
    clock, keys, store = VirtualClock(), list[str](), MemoryStore()

    async def ship(what: str) -> str:
        call = current_call()
        keys.append(f"{call.key} {call.attempt}")
        if len(keys) < 3:
            raise ConnectionError(len(keys))
        return f"shipped {what}"

    handlers = [Carrier.ship.handled_by(ship), clock.handler()]
    line = Line(store)
    async with dying(line, Desk(), *handlers, workflows=WORKFLOWS) as one:
        await one.start(ships("it"), id="one")
        assert (await stands(one, "one")).wake_at == clock.now + HOUR
        await put_away(one, "one")
        clock.advance(HOUR)
        if not dies:
            await until(one, partial(_has_called, keys, 2))
            await put_away(one)
            clock.advance(HOUR)
            assert await one.get("one").result(10) == "shipped it"
    async with runtime(store, Desk(), *handlers, workflows=WORKFLOWS) as two:
        for _ in range(3):
            if (await two.get("one").settled(10)).has_ended:
                break
            clock.advance(HOUR)
        assert await two.get("one").result(10) == "shipped it"
        log = await two.get("one").log()
    assert keys == ["one/0/1 1", "one/0/1 2", "one/0/1 3"]
    assert [len(entry.attempts) for entry in log.entries] == [2]
    assert (await stored(store, "one")).status == "completed"


async def _has_called(keys: list[str], count: int) -> bool:
    return len(keys) >= count
