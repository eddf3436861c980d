"""How many appends does a Port call take, and how many a local effect?

Counted, not timed: in SQLite by the trace of its statements, in PostgreSQL by a trigger of their table. A run of so
many calls is held against one of half as many, so that what a run takes by itself drops out. The runs move one after
the other: so the commits that SQLite counts are shared with nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from baselines_postgres import connection, has_server, server
from harness import Figure, Sizes, figure, main
from runtime_parts import HANDLERS, Doubling, folder

from skuld_async import Effectful, Return, State, computation
from skuld_async.durable import Runtime, Store
from skuld_async.stores.sqlite import SQLiteStore

CALLS = 100
LOCAL = 10
"""Local effects around each call."""

_TRIGGER = """
    CREATE SEQUENCE counted.inserts;
    SELECT nextval('counted.inserts');
    CREATE FUNCTION counted.count() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM nextval(''counted.inserts''); RETURN NEW; END';
    CREATE TRIGGER count BEFORE INSERT ON counted.chunks FOR EACH ROW EXECUTE FUNCTION counted.count();
"""

seen = State("seen", int)

Counting = Callable[[], Awaitable[int]]
"""Gives how many appends were written up to now."""


@computation
async def mixed(calls: int, local: int) -> Effectful[int]:
    last = 0
    for number in range(calls):
        for _ in range(local):
            yield seen.put(number)
        last = yield Doubling.double(number)
    yield Return(last)


@asynccontextmanager
async def running(store: Store) -> AsyncGenerator[Runtime]:
    async with Runtime(store, [mixed], [*HANDLERS, seen.handler(0)]) as runtime:
        yield runtime


async def appends(runtime: Runtime, counted: Counting, calls: int, local: int) -> int:
    """How many a run of so many calls takes."""
    before = await counted()
    run = await runtime.start(mixed(calls, local))
    await run.result()
    return await counted() - before


async def per_call(runtime: Runtime, counted: Counting, calls: int, name: str) -> list[Figure]:
    half, whole = [await appends(runtime, counted, many, 0) for many in (calls // 2, calls)]
    with_local = await appends(runtime, counted, calls, LOCAL)
    of_calls = (whole - half) / (calls - calls // 2)
    return [
        figure(f"appends for a Port call, {name}", [of_calls], 1),
        figure(f"appends with {LOCAL} local effects around each call, and with none, {name}", [with_local / whole], 1),
    ]


async def in_sqlite(path: Path, calls: int) -> list[Figure]:
    statements: list[str] = []
    store = SQLiteStore(path / "runs.db")
    async with running(store) as runtime:
        # The trace is set in the thread that the connection belongs to.
        await store._write(lambda desk, trace: desk.connection.set_trace_callback(trace), statements.append)  # noqa: SLF001

        async def chunks() -> int:
            return sum(one.lstrip().startswith("INSERT INTO chunks") for one in statements)

        async def commits() -> int:
            """Of transactions that wrote a chunk: what a worker writes about itself is no append."""
            wrote, found = False, 0
            for one in statements:
                wrote = wrote or one.lstrip().startswith("INSERT INTO chunks")
                if one == "COMMIT":
                    wrote, found = False, found + wrote
            return found

        figures = await per_call(runtime, chunks, calls, "SQLite")
        return figures + (await per_call(runtime, commits, calls, "SQLite, commits"))[:1]


async def in_postgres(path: Path, calls: int) -> list[Figure]:
    from skuld_async.stores.postgres import PostgresStore  # noqa: PLC0415 - its driver is an extra

    async with AsyncExitStack() as stack:
        dsn = stack.enter_context(server(path))
        runtime = await stack.enter_async_context(running(PostgresStore(dsn, schema="counted")))
        watching = await stack.enter_async_context(connection(dsn))

        await watching.execute(_TRIGGER)

        async def chunks() -> int:
            return int(await watching.fetchval("SELECT last_value FROM counted.inserts"))

        return await per_call(runtime, chunks, calls, "PostgreSQL")


async def measure(sizes: Sizes) -> list[Figure]:
    with folder() as path:
        figures = await in_sqlite(path, sizes.count(CALLS))
        if has_server():
            figures += await in_postgres(path, sizes.count(CALLS))
    return figures


if __name__ == "__main__":
    main(__file__, "How many appends does a Port call take?", measure)
