"""What does concurrency cost: a branch, a parked strand, the replay of many strands, a decision?

The base is what anyio does for the same: its task group, with the same function called in as many tasks. The function
awaits nothing, so what is compared are the branches; one that lets others run first is told beside it. A replay of many
strands is compared with that of one strand that has as many entries. What a parked strand weighs is told by
`tracemalloc`, each in a fresh process.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import anyio
from floor import counter, yielding
from harness import Case, Figure, Sizes, compare, figure, main
from replay import double as doubled
from replay import doubling, log_of, replaying

from skuld_async import (
    Completed,
    Computation,
    Effect,
    Effectful,
    Handler,
    Log,
    Parallel,
    Return,
    Yield,
    computation,
    open_session,
    port,
    run,
    start,
)

BRANCHES = 1_000
ITEMS = 10_000
LIMIT = 100
STRANDS = 100
ENTRIES = 1_000
"""In each strand that is replayed."""
RACES = 200
TARGET = 2.5
TARGET_REPLAY = 1


class Doubling(Protocol):
    """A trivial function, called in a task or by a port."""

    def __call__(self, number: int) -> Awaitable[int]: ...


async def double_at_once(number: int) -> int:
    return 2 * number


async def double_in_turn(number: int) -> int:
    await anyio.lowlevel.checkpoint()
    return 2 * number


@port
async def double(number: int) -> int:
    return await double_at_once(number)


# -- branches --------------------------------------------------------------------------------------------------------


def in_tasks(function: Doubling, times: int) -> Case:
    """The base of `Parallel.all`: a bare task group."""

    async def serve() -> int:
        results = [0] * times

        async def one(number: int) -> None:
            results[number] = await function(number)

        async with anyio.create_task_group() as group:
            for number in range(times):
                group.start_soon(one, number)
        assert results[-1] == 2 * (times - 1)
        return times

    return serve


def in_limited_tasks(function: Doubling, times: int, limit: int) -> Case:
    """The base of `Parallel.map` with a limit."""

    async def serve() -> int:
        results = [0] * times
        limiter = anyio.CapacityLimiter(limit)

        async def one(number: int) -> None:
            async with limiter:
                results[number] = await function(number)

        async with anyio.create_task_group() as group:
            for number in range(times):
                group.start_soon(one, number)
        assert results[-1] == 2 * (times - 1)
        return times

    return serve


@computation
async def doubling_all(times: int) -> Effectful[int]:
    results = yield Parallel.all(*[double(number) for number in range(times)])
    yield Return(len(results))


@computation
async def doubling_each(times: int, limit: int) -> Effectful[int]:
    results = yield Parallel.map(double, range(times), limit=limit)
    yield Return(len(results))


def logged(comp: Computation[int], function: Doubling, times: int) -> Case:
    handler = double.handled_by(function)

    async def serve() -> int:
        outcome = await start(comp, handler)
        assert outcome.value == times
        return times

    return serve


def unlogged(comp: Computation[int], function: Doubling, times: int) -> Case:
    handler = double.handled_by(function)

    async def serve() -> int:
        assert await run(comp, handler) == times
        return times

    return serve


async def of_branches(sizes: Sizes) -> list[Figure]:
    times, items, limit = sizes.count(BRANCHES), sizes.count(ITEMS), min(LIMIT, sizes.count(ITEMS) // 10)
    figures: list[Figure] = []
    for function, told in ((double_at_once, ""), (double_in_turn, ", let others run first")):
        comp = doubling_all(times)
        asked, told_beside = f"Parallel.all of 1,000, logged{told}", f"Parallel.all of 1,000, no log{told}"
        cases = {asked: logged(comp, function, times), told_beside: unlogged(comp, function, times)}
        targets = {} if told else {asked: TARGET}
        figures += await compare(in_tasks(function, times), cases, sizes.repetitions, targets)
    comp = doubling_each(items, limit)
    cases = {
        "Parallel.map of 10,000, limit 100, logged": logged(comp, double_at_once, items),
        "Parallel.map of 10,000, limit 100, no log": unlogged(comp, double_at_once, items),
    }
    return figures + await compare(in_limited_tasks(double_at_once, items, limit), cases, sizes.repetitions, {})


# -- replay ----------------------------------------------------------------------------------------------------------


@computation
async def side_by_side(what: str, strands: int, entries: int) -> Effectful[int]:
    if what == "local effects":
        yield Parallel.map(yielding, [entries // 2] * strands)
    else:
        yield Parallel.map(doubling, [entries] * strands)
    yield Return(strands)


async def of_replays(sizes: Sizes) -> list[Figure]:
    strands, entries = sizes.count(STRANDS) // (10 if sizes.smoke else 1), sizes.count(ENTRIES)
    total = strands * entries
    straight: dict[str, tuple[Computation[int], Handler]] = {
        "local effects": (yielding(total // 2), counter.handler(0)),
        "port calls": (doubling(total), doubled.default()),
    }
    figures: list[Figure] = []
    for what, (comp, handler) in straight.items():
        concurrent = side_by_side(what, strands, entries)
        log, split = await log_of(comp, handler), await log_of(concurrent, handler)
        read = replayed_from(comp, handler, log), replayed_from(concurrent, handler, split)
        name = f"replay of 100 strands, {what}"
        figures += await compare(read[0], {name: read[1]}, sizes.repetitions, {name: TARGET_REPLAY})
        before = replayed_with(comp, handler, log), replayed_with(concurrent, handler, split)
        figures += await compare(before[0], {f"{name}, log read before": before[1]}, sizes.repetitions, {})
    return figures


def replayed_from(comp: Computation[int], handler: Handler, log: Log) -> Case:
    stored = log.to_json()
    return replaying(comp, handler, lambda: Log.from_json(stored))


def replayed_with(comp: Computation[int], handler: Handler, log: Log) -> Case:
    return replaying(comp, handler, lambda: log)


# -- decisions -------------------------------------------------------------------------------------------------------


class Soon(Effect[int], frozen=True):
    """Answered at once."""


class Forever(Effect[int], frozen=True):
    """Answered by nobody."""


class Stopwatch:
    """Nanoseconds from the end of who wins to the next line of who asked."""

    def __init__(self) -> None:
        self.began = 0
        self.taken: list[int] = []

    def start(self) -> None:
        self.began = time.thread_time_ns()

    def stop(self) -> None:
        self.taken.append(time.thread_time_ns() - self.began)

    def median(self) -> float:
        return statistics.median(self.taken)


watch = Stopwatch()


async def answer_soon(_: Soon) -> int:
    await anyio.lowlevel.checkpoint()  # the other is under way
    watch.start()
    return 1


async def wait_forever(_: Forever) -> int:
    await anyio.sleep_forever()
    raise AssertionError


@computation
async def races(times: int) -> Effectful[int]:
    for _ in range(times):
        yield Parallel.race(fast=Soon(), slow=Forever())
        watch.stop()
    yield Return(times)


async def bare_races(times: int) -> int:
    async def win(scope: anyio.CancelScope) -> None:
        await answer_soon(Soon())
        scope.cancel()

    for _ in range(times):
        async with anyio.create_task_group() as group:
            group.start_soon(wait_forever, Forever())
            group.start_soon(win, group.cancel_scope)
        watch.stop()
    return times


async def of_decisions(sizes: Sizes) -> list[Figure]:
    times = sizes.count(RACES)
    handlers = [Soon.handled_by(answer_soon), Forever.handled_by(wait_forever)]

    async def bare() -> int:
        return await bare_races(times)

    async def with_log() -> int:
        outcome = await start(races(times), *handlers)
        assert isinstance(outcome, Completed)
        return times

    async def without_log() -> int:
        return await run(races(times), *handlers)

    cases = {"a race of 2, logged": with_log, "a race of 2, no log": without_log}
    figures = await compare(bare, cases, sizes.repetitions, {})
    latencies: list[Figure] = []
    for name, case in (("logged", with_log), ("no log", without_log), ("bare tasks", bare)):
        watch.taken.clear()
        await case()
        latencies.append(Figure(f"from a winner's end to the next line, {name}", each=watch.median()))
    return figures + latencies


# -- weights ---------------------------------------------------------------------------------------------------------


class Ask(Yield[int], frozen=True):
    number: int


@computation
async def asking(times: int) -> Effectful[int]:
    answers = yield Parallel.map(Ask, range(times))
    yield Return(len(answers))


async def weigh_strands(times: int) -> float:
    """Bytes of each strand that waits for its answer, with its entry in the log."""
    async with open_session(asking(1)) as session:  # what is made once
        await session.outcome()
    del session
    before = traced()
    async with open_session(asking(times)) as session:
        outcome = await session.outcome()
        assert len(outcome.log.waits) == times
        del outcome
        return (traced() - before) / times


async def weigh_tasks(times: int) -> float:
    """Bytes of each asyncio task that waits for an event of its own."""
    before = traced()
    events = [asyncio.Event() for _ in range(times)]
    tasks = [asyncio.create_task(event.wait()) for event in events]
    await anyio.wait_all_tasks_blocked()
    bytes_each = (traced() - before) / times
    for event in events:
        event.set()
    await asyncio.gather(*tasks)
    return bytes_each


def traced() -> int:
    """Bytes that are in use."""
    gc.collect()
    if not tracemalloc.is_tracing():
        tracemalloc.start()
    return tracemalloc.get_traced_memory()[0]


def weight(case: str, times: int) -> float:
    """What *case* gives in a fresh process."""
    program = f"import anyio, strands; print(anyio.run(strands.{case}, {times}))"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return float(told.stdout)


def of_weights(sizes: Sizes) -> list[Figure]:
    times = sizes.count(BRANCHES)
    strand, task = weight("weigh_strands", times), weight("weigh_tasks", times)  # bytes do not wander
    return [
        figure("memory of a parked strand, and of a bare task", [strand / task]),
        Figure("a parked strand, with its entry", note=f"{strand:,.0f} bytes"),
        Figure("a bare task that waits for an event", note=f"{task:,.0f} bytes"),
    ]


async def measure(sizes: Sizes) -> list[Figure]:
    figures = await of_branches(sizes)
    figures += await of_replays(sizes)
    figures += await of_decisions(sizes)
    return figures + of_weights(sizes)


if __name__ == "__main__":
    main(__file__, "What do branches, parked strands, their replay and a decision cost?", measure)
