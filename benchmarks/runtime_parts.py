"""What the scripts about the runtime share: a workflow of trivial steps, and time by the clock.

Most of the time here is spent in threads and on disks, so what counts is the time that passes. Each case stands between
two measurements of its own baseline, as in `harness.compare`, and the ratio is taken there: figures of one repetition
saw the same disk. A target that is a share of the baseline's speed, such as 0.8, reads here as at most 1 / 0.8 of its
time.
"""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Protocol

import anyio
import msgspec
from harness import Case, Figure

from skuld_async import Effectful, Port, Return, computation, operation
from skuld_async.durable import Runtime, Store

SEQUENTIAL = 1 / 0.8
"""The share that is asked for where one run takes step after step ..."""
CONCURRENT = 1 / 0.4
"""... and where many do."""


class Doubling(Port, Protocol):
    @operation
    async def double(self, number: int) -> int: ...


class Trivial:
    """A service that awaits nothing."""

    async def double(self, number: int) -> int:
        return 2 * number


SERVICE = Trivial()
HANDLERS = [Doubling.handler(SERVICE)]
ROUNDS = count()
"""No two runs that are written by hand have the same id."""


@computation
async def steps(count: int) -> Effectful[int]:
    last = 0
    for number in range(count):
        last = yield Doubling.double(number)
    yield Return(last)


class Step(msgspec.Struct):
    """A step as somebody writes it down by hand."""

    id: str
    sig: str
    data: tuple[int]
    value: int


encode = msgspec.json.Encoder().encode


class Journal(Protocol):
    """Keeps the steps of workflows that are written by hand."""

    async def step(self, run: str, number: int, data: bytes) -> None:
        """Keep a step; comes back when it is committed."""
        ...


async def steps_by_hand(journal: Journal, run: str, first: int, last: int) -> None:
    """The same steps, each with a row."""
    for number in range(first, last):
        value = await SERVICE.double(number)
        step = Step(f"0/{number}", "runtime_parts:Doubling.double", (number,), value)
        await journal.step(run, number, encode(step))


async def all_of(runs: int, one: Callable[[int], Coroutine[Any, Any, object]]) -> None:
    """Do *one* for each of so many runs, at once."""
    async with anyio.create_task_group() as group:
        for number in range(runs):
            group.start_soon(one, number)


@asynccontextmanager
async def running(store: Store) -> AsyncGenerator[Runtime]:
    """A runtime that knows `steps`."""
    async with Runtime(store, [steps], HANDLERS) as runtime:
        yield runtime


def held(runtime: Runtime) -> Collection[str]:
    """The runs that it has in memory."""
    return runtime._dispatcher.active  # noqa: SLF001


async def put_away(runtime: Runtime, run: str) -> None:
    """Wait until *run* is no longer in memory."""
    while run in held(runtime):
        await runtime.notices.of(run).wait()


@contextmanager
def folder() -> Generator[Path]:
    """A folder for databases, on the disk that temporary files are on."""
    with tempfile.TemporaryDirectory(prefix="skuld-async-") as path:
        yield Path(path)


async def passed(case: Case) -> float:
    """Nanoseconds that pass for one step."""
    gc.collect()
    started = time.perf_counter_ns()
    done = await case()
    return (time.perf_counter_ns() - started) / done


async def beside(name: str, base: Case, case: Case, repetitions: int, target: float | None = None) -> Figure:
    """Measure *case* beside *base*, by the clock; the note tells how many a second both do."""
    for one in (base, case):
        await one()
    times: list[float] = []
    bases = [await passed(base)]
    for _ in range(repetitions):
        times.append(await passed(case))
        bases.append(await passed(base))
    ratios = [2 * one / (before + after) for one, before, after in zip(times, bases, bases[1:], strict=False)]
    each, by_hand = statistics.median(times), statistics.median(bases)
    note = f"{1e9 / each:,.0f} a second, by hand {1e9 / by_hand:,.0f}"
    return Figure(name, statistics.median(ratios), min(ratios), max(ratios), target, each, note)
