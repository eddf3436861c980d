"""How long does a cold resume from SQLite take, and does it grow with the log as its parts do?

The run has made so many Port calls and asks one question after the other. It is put away as soon as it waits. So with
each answer a worker claims it, reads its log, replays all of it, and goes on to the next question. What is timed is all
of that, with its commits: from the call of `Runtime.answer_json` until the run is put away again. By hand the same rows
are read with sqlite3, decoded, and replayed, and nothing is written. ``synchronous`` is ``normal``: how long a disk
takes is no question here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from harness import Case, Figure, Sizes, figure, main
from runtime_parts import HANDLERS, Doubling, beside, folder, put_away

from skuld_async import Computation, Effectful, Suspended, Yield, computation, replay
from skuld_async.durable import Run, Runtime
from skuld_async.log.chunks import log_of
from skuld_async.stores.sqlite import SQLiteStore

LENGTHS = (1_000, 10_000)
TARGET = 3
LIMIT = 10e6
"""Nanoseconds for the shorter one."""
LINEAR = 1.2
REPETITIONS = 9


class More(Yield[bool], frozen=True):
    """Whether there is more to come."""


@computation
async def long(calls: int) -> Effectful[None]:
    for number in range(calls):
        yield Doubling.double(number)
    while (yield More()):
        pass


def resuming(runtime: Runtime, run: Run[None]) -> Case:
    async def serve() -> int:
        wait = (await runtime.waits(run=run.id)).items[0]
        await runtime.answer_json(wait, b"true")
        await run.settled()
        await put_away(runtime, run.id)
        return 1

    return serve


def reading(connection: sqlite3.Connection, run: str, comp: Computation[None]) -> Case:
    async def serve() -> int:
        query = "SELECT data FROM chunks WHERE run = (SELECT key FROM runs WHERE id = ?) ORDER BY number"
        log, _ = log_of(data for (data,) in connection.execute(query, (run,)))
        assert isinstance(await replay(comp, log, *HANDLERS), Suspended)
        return 1

    return serve


@asynccontextmanager
async def parked(path: Path, calls: int) -> AsyncGenerator[tuple[Runtime, Run[None]]]:
    """A run of so many calls that waits, and was put away."""
    store = SQLiteStore(path, synchronous="normal")
    async with Runtime(store, [long], HANDLERS, idle=0) as runtime:
        run = await runtime.start(long(calls))
        await run.settled()
        await put_away(runtime, run.id)
        yield runtime, run


async def measure(sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    repetitions = min(REPETITIONS, sizes.repetitions)
    with folder() as path:
        for length in LENGTHS:
            calls = sizes.count(length)
            file = path / f"{length}.db"
            async with parked(file, calls) as (runtime, run):
                with closing(sqlite3.connect(file)) as connection:
                    name = f"cold resume of {length:,} entries, SQLite"
                    base, case = reading(connection, run.id, long(calls)), resuming(runtime, run)
                    figures.append(
                        await beside(name, base, case, repetitions, TARGET if length == LENGTHS[0] else None)
                    )
    short, whole = (one.each or 0 for one in figures)
    ratio = whole / short * sizes.count(LENGTHS[0]) / sizes.count(LENGTHS[1])
    return [
        *figures,
        figure(f"cold resume of {LENGTHS[0]:,} entries, in {LIMIT / 1e6:g} ms", [short / LIMIT], 1),
        figure(f"an entry of {LENGTHS[1]:,}, and one of {LENGTHS[0]:,}, cold resume", [ratio], LINEAR),
    ]


if __name__ == "__main__":
    main(__file__, "How long does a cold resume from SQLite take?", measure)
