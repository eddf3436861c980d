"""How many steps a second does the runtime keep, in one run and in many at once, beside rows that are written by hand?

A step is the call of a port that awaits nothing. By hand it is one row, and no row says that a run begins or ends. The
same runs on a `MemoryStore`, and without any store, are held against the same baseline: they show what the steps cost
in Python, whatever keeps them.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from baselines_postgres import Batches, Inserts, has_server, server, tables
from baselines_sqlite import Synchronous, group_commit
from harness import Case, Figure, Sizes, main
from runtime_parts import (
    CONCURRENT,
    HANDLERS,
    ROUNDS,
    SEQUENTIAL,
    Journal,
    all_of,
    beside,
    folder,
    running,
    steps,
    steps_by_hand,
)

from skuld_async import Completed, start
from skuld_async.durable import Runtime
from skuld_async.stores.memory import MemoryStore
from skuld_async.stores.sqlite import SQLiteStore

CASES = ((1, 1000, SEQUENTIAL), (50, 20, CONCURRENT), (500, 20, CONCURRENT))
"""Runs at once, steps of each, the target."""
REPETITIONS = 5


def by_hand(journal: Journal, runs: int, each: int) -> Case:
    async def serve() -> int:
        round_ = next(ROUNDS)
        await all_of(runs, lambda run: steps_by_hand(journal, f"{round_}-{run}", 0, each))
        return runs * each

    return serve


def kept(runtime: Runtime, runs: int, each: int) -> Case:
    async def one(_: int) -> None:
        run = await runtime.start(steps(each))
        assert await run.result() == 2 * (each - 1)

    async def serve() -> int:
        await all_of(runs, one)
        return runs * each

    return serve


def in_memory(runs: int, each: int) -> Case:
    async def one(_: int) -> None:
        assert isinstance(await start(steps(each), *HANDLERS), Completed)

    async def serve() -> int:
        await all_of(runs, one)
        return runs * each

    return serve


async def of_sqlite(sizes: Sizes, path: Path, synchronous: Synchronous) -> list[Figure]:
    figures: list[Figure] = []
    repetitions = min(REPETITIONS, sizes.repetitions)
    async with AsyncExitStack() as stack:
        writer = stack.enter_context(group_commit(path / f"by-hand-{synchronous}.db", synchronous))
        store = SQLiteStore(path / f"{synchronous}.db", synchronous=synchronous)
        runtime = await stack.enter_async_context(running(store))
        memory = await stack.enter_async_context(running(MemoryStore()))
        for runs, each, target in CASES:
            if runs > 1 and synchronous == "normal":
                continue
            size = sizes.count(runs), sizes.count(each)
            base = by_hand(writer, *size)
            cases: dict[str, tuple[Case, float | None]] = {f"SQLite, {synchronous}": (kept(runtime, *size), target)}
            if synchronous == "full":
                cases |= {"MemoryStore": (kept(memory, *size), None), "no store": (in_memory(*size), None)}
            for kind, (case, asked) in cases.items():
                figures.append(await beside(f"steps of {named(runs)}, {kind}", base, case, repetitions, asked))
    return figures


async def of_postgres(sizes: Sizes, path: Path) -> list[Figure]:
    from skuld_async.stores.postgres import PostgresStore  # noqa: PLC0415 - its driver is an extra

    figures: list[Figure] = []
    repetitions = min(REPETITIONS, sizes.repetitions)
    async with AsyncExitStack() as stack:
        dsn = stack.enter_context(server(path))
        connection = await stack.enter_async_context(tables(dsn))
        runtime = await stack.enter_async_context(running(PostgresStore(dsn)))
        for runs, each, target in CASES:
            size = sizes.count(runs), sizes.count(each)
            base = by_hand(Inserts(connection) if runs == 1 else Batches(connection), *size)
            name = f"steps of {named(runs)}, PostgreSQL"
            figures.append(await beside(name, base, kept(runtime, *size), repetitions, target))
    return figures


def named(runs: int) -> str:
    return "one run" if runs == 1 else f"{runs} runs"


async def measure(sizes: Sizes) -> list[Figure]:
    with folder() as path:
        figures = await of_sqlite(sizes, path, "full")
        figures += await of_sqlite(sizes, path, "normal")
        if has_server():
            figures += await of_postgres(sizes, path)
    return figures


if __name__ == "__main__":
    main(__file__, "How many steps a second does the runtime keep?", measure)
