"""What the tests of PostgresStore look through: a pool that counts statements, and that can lose an answer."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import count
from typing import Any

from msgspec.structs import replace

from skuld_async.durable.records import Append, RunRecord
from skuld_async.durable.store import Store
from skuld_async.stores.postgres import PostgresStore
from skuld_async.testing.stores.samples import AT, write

asyncpg: Any = import_module("asyncpg")  # it has no types
NUMBERS = count(1)


def new_schema() -> str:
    """The name of a schema that nobody else has."""
    return f"apart_{next(NUMBERS)}"


class Watched:
    """A connection that counts its round trips; one that is told to loses its answer after the next commit."""

    def __init__(self, connection: Any, pool: "WatchedPool") -> None:
        self.connection = connection
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.connection, name)
        if name not in {"fetch", "fetchrow", "fetchval", "fetchmany", "execute"}:
            return method

        async def counted(statement: str, *arguments: Any) -> Any:
            self._pool.statements.append(statement)
            result = await method(statement, *arguments)
            if not self.connection.is_in_transaction():
                self._pool.committed()
            return result

        return counted

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        async with self.connection.transaction():
            yield
        self._pool.committed()


class Lease:
    """What ``acquire`` gives: to be awaited, or to be entered."""

    def __init__(self, pool: "WatchedPool") -> None:
        self._pool = pool

    def __await__(self) -> Generator[Any, Any, Watched]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Watched:
        self._connection = Watched(await self._pool.pool.acquire(), self._pool)
        return self._connection

    async def __aexit__(self, *_: object) -> None:
        await self._pool.release(self._connection)


class WatchedPool:
    """A pool of connections that are watched."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.statements: list[str] = []
        self.loses = False
        """Whether the next commit succeeds, and the caller sees an error."""

    def acquire(self) -> Lease:
        return Lease(self)

    async def release(self, connection: Watched) -> None:
        await self.pool.release(connection.connection)

    async def close(self) -> None:
        await self.pool.close()

    def terminate(self) -> None:
        self.pool.terminate()

    def get_max_size(self) -> int:
        return int(self.pool.get_max_size())

    def committed(self) -> None:
        if self.loses:
            self.loses = False
            message = "the answer was lost"
            raise ConnectionResetError(message)


@asynccontextmanager
async def watched(uri: str, **options: Any) -> AsyncGenerator[tuple[PostgresStore, WatchedPool]]:
    """A store on a pool that is watched, in a schema of its own."""
    async with asyncpg.create_pool(uri, min_size=1, max_size=5, **options) as pool:
        one = WatchedPool(pool)
        async with PostgresStore(uri, pool=one, schema=new_schema()) as store:
            yield store, one


async def appends(store: Store, record: RunRecord, numbers: Sequence[int]) -> None:
    """One append after the other; each chunk is the number of its append."""
    for number in numbers:
        await store.append(write(record, number=number, chunk=b"%d" % number, at=AT + number))


def numbered(record: RunRecord, number: int, **changes: Any) -> Append:
    return replace(write(record), number=number, **changes)


Call = Callable[[Store], Awaitable[object]]
