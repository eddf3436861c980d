"""What does it take to ask, to be put away, to be answered, and to go on, in many runs at once?

A round trip is a run of three steps, a question, its answer, and two steps; all are answered as soon as they ask. Once
the runs stay in memory while they wait, and once they are put away at once, so that each is claimed and resumed cold.
By hand the same is written, in as many commits: the run, its steps, the question, that it waits, that a worker claims
it, the answer, the result; and where it was put away, its steps are read again. The same without any store, by `start`
and `resume`, is held against the same baseline: it shows what the round trip costs in Python, whatever keeps it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Protocol

import anyio
import msgspec
from baselines_postgres import Batches, connection, has_server, server, tables
from baselines_sqlite import group_commit
from harness import Case, Figure, Sizes, main
from runtime_parts import (
    CONCURRENT,
    HANDLERS,
    ROUNDS,
    SERVICE,
    Doubling,
    Journal,
    all_of,
    beside,
    encode,
    folder,
    steps_by_hand,
)

from skuld_async import Completed, Effectful, Return, Suspended, Yield, computation, resume, start
from skuld_async.durable import Runtime, Store
from skuld_async.stores.sqlite import SQLiteStore

RUNS = 200
BEFORE = 3
AFTER = 2
REPETITIONS = 5

Reading = Callable[[str], Awaitable[list[bytes]]]
"""Gives the steps of a run."""

SQLITE = {
    "begins": "INSERT INTO runs VALUES (?, 'running', 'worker', ?)",
    "asks": "INSERT INTO waits VALUES (?, ?, NULL)",
    "rests": "UPDATE runs SET status = 'suspended', owner = NULL WHERE id = ?",
    "answered": "UPDATE waits SET answer = ? WHERE run = ? AND answer IS NULL",
    "wakes": "UPDATE runs SET status = 'running', owner = NULL WHERE id = ?",
    "claimed": "UPDATE runs SET owner = 'worker' WHERE id = ? AND owner IS NULL",
    "ends": "UPDATE runs SET status = 'completed', owner = NULL, data = ? WHERE id = ?",
}
POSTGRES = {
    "begins": "INSERT INTO by_hand.runs VALUES ($1, 'running', 'worker', $2)",
    "asks": "INSERT INTO by_hand.waits VALUES ($1, $2, NULL)",
    "rests": "UPDATE by_hand.runs SET status = 'suspended', owner = NULL WHERE id = $1",
    "answered": "UPDATE by_hand.waits SET answer = $1 WHERE run = $2 AND answer IS NULL",
    "wakes": "UPDATE by_hand.runs SET status = 'running', owner = NULL WHERE id = $1",
    "claimed": "UPDATE by_hand.runs SET owner = 'worker' WHERE id = $1 AND owner IS NULL",
    "ends": "UPDATE by_hand.runs SET status = 'completed', owner = NULL, data = $1 WHERE id = $2",
}


class Confirm(Yield[bool], frozen=True):
    """Whether it is to go on."""

    number: int


class Asked(msgspec.Struct):
    """The question as somebody writes it down by hand."""

    sig: str
    number: int
    answer: str


class Writer(Journal, Protocol):
    async def write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Perform *statements* in one commit."""
        ...


@computation
async def confirmed(before: int, after: int) -> Effectful[int]:
    last = 0
    for number in range(before):
        last = yield Doubling.double(number)
    if (yield Confirm(last)):
        for number in range(after):
            last = yield Doubling.double(number)
    yield Return(last)


def round_trips(runtime: Runtime, runs: int) -> Case:
    async def one(_: int) -> None:
        run = await runtime.start(confirmed(BEFORE, AFTER))
        asked = await run.settled()
        await runtime.answer_json(asked.waits[0], b"true")
        assert await run.result() == 2 * (AFTER - 1)

    async def serve() -> int:
        await all_of(runs, one)
        return runs

    return serve


def in_memory(runs: int) -> Case:
    async def one(_: int) -> None:
        asked = await start(confirmed(BEFORE, AFTER), *HANDLERS)
        assert isinstance(asked, Suspended)
        assert isinstance(await resume(confirmed(BEFORE, AFTER), asked.log, *HANDLERS, answer=True), Completed)

    async def serve() -> int:
        await all_of(runs, one)
        return runs

    return serve


def by_hand(writer: Writer, sql: Mapping[str, str], read: Reading | None, runs: int) -> Case:
    """Read the steps again by *read*, where a run is put away."""

    async def one(run: str) -> None:
        await writer.write((sql["begins"], (run, b"[3, 2]")))
        await steps_by_hand(writer, run, 0, BEFORE)
        question = encode(Asked("runtime_waits:Confirm", 4, "boolean"))
        rests = ((sql["rests"], (run,)),)
        await writer.write((sql["asks"], (run, question)), *rests)
        await writer.write((sql["answered"], (b"true", run)), (sql["wakes"], (run,)))
        if read is not None:
            await writer.write((sql["claimed"], (run,)))
            kept = [msgspec.json.decode(data) for data in await read(run)]
            assert len(kept) == BEFORE
        await steps_by_hand(writer, run, BEFORE, BEFORE + AFTER)
        result = encode(await SERVICE.double(AFTER - 1))
        await writer.write((sql["ends"], (result, run)))

    async def serve() -> int:
        round_ = next(ROUNDS)
        await all_of(runs, lambda run: one(f"{round_}-{run}"))
        return runs

    return serve


async def compared(
    sizes: Sizes, name: str, make: Callable[[], Store], writer: Writer, *, sql: Mapping[str, str], read: Reading
) -> list[Figure]:
    figures: list[Figure] = []
    runs, repetitions = sizes.count(RUNS), min(REPETITIONS, sizes.repetitions)
    for kind, idle, reading in (("in memory", 60.0, None), ("put away", 0.0, read)):
        async with Runtime(make(), [confirmed], HANDLERS, idle=idle) as runtime:
            base, case = by_hand(writer, sql, reading, runs), round_trips(runtime, runs)
            title = f"{RUNS} round trips, {kind} while they wait, {name}"
            figures.append(await beside(title, base, case, repetitions, CONCURRENT))
    return figures


async def in_sqlite(sizes: Sizes, path: Path) -> list[Figure]:
    with group_commit(path / "by-hand.db", "full") as writer, closing(sqlite3.connect(path / "by-hand.db")) as reader:

        async def read(run: str) -> list[bytes]:
            return [data for (data,) in reader.execute("SELECT data FROM steps WHERE run = ? ORDER BY number", (run,))]

        figures = await compared(sizes, "SQLite", lambda: SQLiteStore(path / "runs.db"), writer, sql=SQLITE, read=read)
        runs, repetitions = sizes.count(RUNS), min(REPETITIONS, sizes.repetitions)
        base, case = by_hand(writer, SQLITE, None, runs), in_memory(runs)
        return [*figures, await beside(f"{RUNS} round trips, no store", base, case, repetitions)]


async def in_postgres(sizes: Sizes, path: Path) -> list[Figure]:
    from skuld_async.stores.postgres import PostgresStore  # noqa: PLC0415 - its driver is an extra

    async with AsyncExitStack() as stack:
        dsn = stack.enter_context(server(path))
        writing = await stack.enter_async_context(tables(dsn))
        reading = await stack.enter_async_context(connection(dsn))
        turn = anyio.Lock()

        async def read(run: str) -> list[bytes]:
            async with turn:
                found = await reading.fetch("SELECT data FROM by_hand.steps WHERE run = $1 ORDER BY number", run)
            return [row[0] for row in found]

        batches = Batches(writing)
        return await compared(sizes, "PostgreSQL", lambda: PostgresStore(dsn), batches, sql=POSTGRES, read=read)


async def measure(sizes: Sizes) -> list[Figure]:
    with folder() as path:
        figures = await in_sqlite(sizes, path)
        if has_server():
            figures += await in_postgres(sizes, path)
    return figures


if __name__ == "__main__":
    main(__file__, "What does it take to ask, to be answered, and to go on?", measure)
