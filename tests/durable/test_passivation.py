"""Passivation: what waits is in the store alone, and takes neither memory nor attention there."""

import gc
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio

from skuld_async import (
    Clock,
    Effectful,
    Return,
    computation,
)
from skuld_async.durable import Runtime
from skuld_async.durable.dispatcher import BATCH
from skuld_async.durable.driver import Driver
from skuld_async.durable.store import Store
from skuld_async.log.log import Log
from skuld_async.log.session import Session
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock

from .parts import (
    Comment,
    Desk,
    Line,
    Office,
    comment,
    open_waits,
    put_away,
    runtime,
    stands,
    until,
)

Connect = Callable[[], Store]
HOUR = timedelta(hours=1)


@computation
async def sleeper(minutes: int, what: str = "woken") -> Effectful[str]:
    yield Clock.sleep(timedelta(minutes=minutes))
    yield Return((yield Office.do(what)))


@computation
async def back_and_forth() -> Effectful[str]:
    first = yield Comment("first")
    yield Clock.sleep(HOUR)
    second = yield Comment("second")
    yield Return(f"{first} {second}")


WORKFLOWS: list[Any] = [sleeper, comment, back_and_forth]


async def test_two_thousand_sleeping_runs_wake_in_their_order() -> None:
    """Each when its time has come, the longest due first; asleep they take no memory but the store's."""
    clock, desk, store = VirtualClock(), Desk(), MemoryStore()
    async with runtime(store, desk, clock.handler(), workflows=WORKFLOWS, idle=0) as one:
        order = [(number * 7919) % 2000 for number in range(2000)]
        for number in order:
            await one.start(sleeper(number + 1, f"{number}"), id=f"{number}")
        await put_away(one)
        clock.advance(timedelta(minutes=1000))
        await _ended(one, 1000)
        assert sorted(map(int, desk.done)) == list(range(1000))
        assert all(abs(place - int(what)) < 2 * BATCH for place, what in enumerate(desk.done))
        clock.advance(timedelta(minutes=1000))
        await _ended(one, 2000)
    assert sorted(map(int, desk.done)) == list(range(2000))


async def _ended(one: Runtime, count: int) -> None:
    async def are() -> bool:
        return len((await one.runs(status="completed", limit=2001)).items) == count

    await until(one, are)


async def test_what_is_put_away_is_not_in_memory() -> None:
    """Of three hundred runs that sleep, and as many that wait, next to none has a log, session or driver left."""

    def alive() -> int:
        gc.collect()
        return sum(isinstance(one, Driver | Session | Log) for one in gc.get_objects())

    async with runtime(MemoryStore(), workflows=WORKFLOWS, idle=0) as one:
        before = alive()
        for number in range(300):
            await one.start(sleeper(60), id=f"s{number}")
            await one.start(comment("x"), id=f"c{number}")
        await put_away(one)
        assert alive() < before + 100  # asyncio keeps some timers that were cancelled, with what they were set for


async def test_what_waits_for_longer_is_put_away() -> None:
    """In memory for `idle` seconds, then in the store alone; an answer brings it back either way."""
    desk, line = Desk(), Line(MemoryStore())
    async with runtime(line, desk, workflows=WORKFLOWS, idle=0.05) as one:
        run = await one.start(comment("x"))
        (wait,) = await open_waits(one)
        assert run.id in one._dispatcher.active
        await put_away(one, run.id)
        assert line.calls["load"] == 0
        await one.answer(wait, "said")
        assert await run.result(10) == "X SAID"
        assert line.calls["load"] == 1


async def test_what_waits_in_memory_goes_on_there() -> None:
    """Nothing is loaded or replayed."""
    line = Line(MemoryStore())
    async with runtime(line, workflows=WORKFLOWS, idle=60) as one:
        run = await one.start(comment("x"))
        (wait,) = await open_waits(one)
        await one.answer(wait, "said")
        assert await run.result(10) == "X SAID"
    assert line.calls["load"] == 0


async def test_messages_of_earlier_stretches_do_not_keep_a_run_awake(connect: Connect) -> None:
    """A run that was answered, put away and woken by its time stands still again: nobody takes it over and over."""
    clock, line = VirtualClock(), Line(connect())
    async with runtime(line, Desk(), clock.handler(), workflows=WORKFLOWS, idle=0) as one:
        run = await one.start(back_and_forth(), id="one")
        (wait,) = await open_waits(one)
        await one.answer(wait, "a")
        await until(one, partial(_sleeps, one))
        await put_away(one, "one")
        clock.advance(HOUR)
        (wait,) = await open_waits(one)
        assert (await stands(one, "one")).status == "suspended"
        await put_away(one, "one")
        loads = line.calls["load"]
        await anyio.sleep(0.1)
        assert line.calls["load"] == loads
        await one.answer(wait, "b")
        assert await run.result(10) == "a b"


async def _sleeps(one: Runtime) -> bool:
    return (await stands(one, "one")).wake_at is not None
