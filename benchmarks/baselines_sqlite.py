"""What one would write by hand on sqlite3: a thread that writes, and puts what came meanwhile into one commit."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

Synchronous: TypeAlias = Literal["full", "normal"]

STEP = "INSERT INTO steps VALUES (?, ?, ?)"

_TABLES = """
    CREATE TABLE steps (run TEXT, number INTEGER, data BLOB, PRIMARY KEY (run, number)) WITHOUT ROWID;
    CREATE TABLE runs (id TEXT PRIMARY KEY, status TEXT, owner TEXT, data BLOB) WITHOUT ROWID;
    CREATE TABLE waits (run TEXT, question BLOB, answer BLOB, PRIMARY KEY (run)) WITHOUT ROWID;
"""
_MOST = 1000

Statement: TypeAlias = tuple[str, tuple[Any, ...]]
_Work: TypeAlias = tuple[tuple[Statement, ...], asyncio.Future[None]]


class GroupCommit:
    """One thread with a connection; a batch is what has gathered while it was in the one before."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._path = path
        self._synchronous = synchronous
        self._thread = threading.Thread(target=self._main)
        self._thread.start()

    async def step(self, run: str, number: int, data: bytes) -> None:
        """Write a row; comes back when it is committed."""
        await self.write((STEP, (run, number, data)))

    async def write(self, *statements: Statement) -> None:
        """Perform *statements*; comes back when they are committed."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((statements, done))
        await done

    def close(self) -> None:
        """End the thread."""
        self._queue.put(None)
        self._thread.join()

    def _main(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.executescript(_TABLES)
        while (batch := list(self._batch())) and batch[0] is not None:
            wanted = [work for work in batch if work is not None]
            error: sqlite3.Error | None = None
            try:
                connection.execute("BEGIN IMMEDIATE")
                for sql, rows in by_statement(work for work, _ in wanted).items():
                    connection.executemany(sql, rows)
                connection.execute("COMMIT")
            except sqlite3.Error as caught:
                error = caught
            self._loop.call_soon_threadsafe(_tell, [done for _, done in wanted], error)
        connection.close()

    def _batch(self) -> Iterator[_Work | None]:
        yield self._queue.get()
        for _ in range(min(self._queue.qsize(), _MOST - 1)):
            yield self._queue.get()


def by_statement(works: Iterable[Iterable[Statement]]) -> dict[str, list[tuple[Any, ...]]]:
    """What is to be performed, each statement once with the rows of all; no run waits for two statements at once."""
    parts: dict[str, list[tuple[Any, ...]]] = {}
    for work in works:
        for sql, row in work:
            parts.setdefault(sql, []).append(row)
    return parts


def _tell(done: Iterable[asyncio.Future[None]], error: sqlite3.Error | None) -> None:
    for one in done:
        if error is None:
            one.set_result(None)
        else:
            one.set_exception(error)


@contextmanager
def group_commit(path: Path, synchronous: Synchronous) -> Generator[GroupCommit]:
    """A writer of a new file."""
    writer = GroupCommit(path, synchronous)
    try:
        yield writer
    finally:
        writer.close()
