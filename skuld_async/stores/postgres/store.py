"""PostgresStore: runs in PostgreSQL, for any number of workers and machines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import anyio

from skuld_async.durable.errors import StoreClosedError, StoreError

from . import queries
from .appends import Appends
from .batches import Batches
from .connections import Connections
from .creation import Creation, CreationKind
from .driver import open_pool
from .heart import PostgresHeart
from .leases import Leases
from .listening import Listening
from .loading import LoadKind
from .messages import AnswerKind, Messages
from .rows import event, message, run_record, wait_record, worker_record
from .schema import Schema

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from skuld_async.durable.records import (
        Append,
        Message,
        NewAnswer,
        NewDeposit,
        NewEvent,
        NewRun,
        RunFilter,
        RunRecord,
        WaitFilter,
        WaitRecord,
        WorkerRecord,
    )
    from skuld_async.durable.store import Answered

    from .driver import Connection, Pool, Row
    from .listening import PostgresListener

T = TypeVar("T")

_LANES = 2  # batches under way at once: while one is written, the next one is collected
_GRACE = 5.0  # seconds for what is under way when the store is left
_FEWEST = _LANES + 2  # connections: one more loads logs, and one does all the rest


class PostgresStore:
    """Keeps runs in a schema of a PostgreSQL database. It runs on asyncio only, as its driver asyncpg does.

    The schema is created where it is missing. What a call has returned from is as durable as the server's
    ``synchronous_commit`` makes it.

    *Gotchas*: text that PostgreSQL cannot hold, which is a NUL character, is refused wherever it comes: in ids, names,
    tags. Behind a pooler that gives a connection to another client after each transaction (pgbouncer) everything works
    but ``LISTEN``: give *listen_dsn*, past the pooler; and where it does not keep prepared statements, a *pool* that
    was made with ``statement_cache_size=0``.

    Args:
        dsn: Where the database is, as asyncpg takes it. Without it and without *pool* the environment variables of
            libpq (``PGHOST``, ``PGUSER``...) say it.
        pool: A pool of asyncpg, which is not closed here. The store holds three of its connections while it is open,
            and takes others for a moment. Heartbeats and ``LISTEN`` have connections of their own: a dsn is needed too.
        schema: Name of the schema.
        connections: Where no pool is given: how many connections the store may open, besides these two.
        listen_dsn: Where heartbeats and ``LISTEN`` connect to, if that is not *dsn*.
        patience: For how many seconds a call is tried again when the connection is lost, before it raises the error.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: Pool | None = None,
        schema: str = "skuld",
        connections: int = 10,
        listen_dsn: str | None = None,
        patience: float = 30.0,
    ) -> None:
        own = dsn if listen_dsn is None else listen_dsn
        if pool is not None and own is None:
            raise ValueError(
                "heartbeats and LISTEN have connections of their own: write PostgresStore(dsn, pool=pool), with the "
                "dsn that the pool was made with"
            )
        if (connections if pool is None else pool.get_max_size()) < _FEWEST:
            raise ValueError(
                f"PostgresStore needs {_FEWEST} connections at least: {_LANES} write and one reads while it is open"
            )
        self._dsn = dsn
        self._given = pool
        self._size = connections
        self._patience = patience
        self._schema = Schema(schema)
        self._own_dsn = own
        self._appends = Appends(self._schema)
        self._creation = CreationKind(self._schema)
        self._answers = AnswerKind(self._schema)
        self._loading = LoadKind(self._schema)
        self._messages = Messages(self._schema)
        self._leases = Leases(self._schema)
        self._open: _Open | None = None

    def __repr__(self) -> str:
        return f"PostgresStore(schema={self._schema.name!r})"

    async def __aenter__(self) -> Self:
        _refuse_trio()
        if self._open is not None:
            raise StoreError(f"{self!r} is open already: enter it once, and share it")
        pool = await open_pool(self._dsn, self._size) if self._given is None else self._given
        opened = _Open(pool, self._patience, Listening(self._own_dsn, self._schema.channel, self._patience))
        try:
            await opened.connections.call(self._schema.migrate)
        except BaseException:
            await opened.close(owned=self._given is None)
            raise
        self._open = opened
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            await opened.close(owned=self._given is None)

    def _opened(self) -> _Open:
        if self._open is None:
            raise StoreClosedError(repr(self))
        return self._open

    async def _call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await self._opened().connections.call(work)

    async def _fetch(self, statement: str, *values: object) -> Sequence[Row]:
        return await self._call(lambda connection: connection.fetch(self._schema.sql(statement), *values))

    # -- runs --------------------------------------------------------------------------------------------------------

    async def create(self, run: NewRun, worker: str | None) -> RunRecord:
        """See `Store.create`."""
        while True:
            record = await self._opened().batches.write(self._creation, Creation(run, worker))
            if record is not None:
                return record

    async def get(self, run: str) -> RunRecord | None:
        """See `Store.get`."""
        rows = await self._fetch(queries.RUN_OF_ID, run)
        return run_record(rows[0]) if rows else None

    async def load(self, run: str) -> tuple[Sequence[bytes], Sequence[Message]]:
        """See `Store.load`."""
        return await self._opened().loads.write(self._loading, run)

    async def inbox(self, run: str) -> Sequence[Message]:
        """See `Store.inbox`."""
        return [message(row) for row in await self._fetch(queries.NEW_MESSAGES, run)]

    async def runs(self, only: RunFilter, after: tuple[float, str] | None, limit: int) -> Sequence[RunRecord]:
        """See `Store.runs`."""
        statement, values = queries.listed_runs(only, after, limit)
        return [run_record(row) for row in await self._fetch(statement, *values)]

    async def append(self, item: Append) -> None:
        """See `Store.append`."""
        await self._opened().batches.write(self._appends.kind_of(item), item)

    async def claim(
        self,
        worker: str,
        *,
        now: float,
        limit: int,
        workflows: Collection[str],
        dead: Collection[str] = (),
        unknown: bool = False,
    ) -> Sequence[RunRecord]:
        """See `Store.claim`."""
        return await self._call(self._leases.claim(worker, now, limit, workflows, dead, unknown=unknown))

    async def next_wake(self, workflows: Collection[str]) -> float | None:
        """See `Store.next_wake`."""
        return await self._call(lambda connection: self._leases.next_wake(connection, workflows))

    async def mail(self, worker: str) -> Sequence[tuple[str, int]]:
        """See `Store.mail`."""
        return await self._call(lambda connection: self._leases.mail(connection, worker))

    async def requeue(self, run: str, now: float) -> bool:
        """See `Store.requeue`."""
        return await self._call(lambda connection: self._leases.requeue(connection, run, now))

    async def requeue_known(self, attention: str, workflows: Collection[str], now: float) -> int:
        """See `Store.requeue_known`."""
        return await self._call(lambda connection: self._leases.requeue_known(connection, attention, workflows, now))

    async def delete(self, run: str) -> Literal["deleted", "owned", "unknown"]:
        """See `Store.delete`."""
        return await self._call(lambda connection: self._leases.delete(connection, run))

    async def expire(self, before: float, limit: int) -> int:
        """See `Store.expire`."""
        return await self._call(lambda connection: self._leases.expire(connection, before, limit))

    # -- messages ----------------------------------------------------------------------------------------------------

    async def wait(self, run: str, wait: str) -> WaitRecord | None:
        """See `Store.wait`."""
        rows = await self._fetch(queries.WAIT_OF_ID, run, wait)
        return wait_record(rows[0]) if rows else None

    async def waits(self, only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> Sequence[WaitRecord]:
        """See `Store.waits`."""
        statement, values = queries.open_waits(only, after, limit)
        return [wait_record(row) for row in await self._fetch(statement, *values)]

    async def answer(self, item: NewAnswer) -> Answered:
        """See `Store.answer`."""
        return await self._opened().batches.write(self._answers, item)

    async def deposit(self, item: NewDeposit) -> int | None:
        """See `Store.deposit`."""
        return await self._call(lambda connection: self._messages.deposit(connection, item))

    async def cancel(self, run: str, reason: str, by: str, at: float) -> bool:
        """See `Store.cancel`."""
        return await self._call(lambda connection: self._messages.cancel(connection, run, reason, by, at))

    async def messages(self, run: str) -> Sequence[tuple[Message, str | None]]:
        """See `Store.messages`."""
        return [(message(row), row["fate"]) for row in await self._fetch(queries.MESSAGES, run)]

    # -- events ------------------------------------------------------------------------------------------------------

    async def events(self, run: str, after: int, limit: int) -> Sequence[NewEvent]:
        """See `Store.events`."""
        return [event(row) for row in await self._fetch(queries.EVENTS, run, after, limit)]

    def listen(self) -> AbstractAsyncContextManager[PostgresListener]:
        """See `Store.listen`."""
        return self._opened().listening.listen()

    # -- workers -----------------------------------------------------------------------------------------------------

    def heart(self, worker: WorkerRecord) -> PostgresHeart:
        """See `Store.heart`."""
        return PostgresHeart(self._own_dsn, self._schema, worker)

    async def workers(self) -> Sequence[WorkerRecord]:
        """See `Store.workers`."""
        return [worker_record(row) for row in await self._fetch(queries.WORKERS)]

    async def bury(self, workers: Collection[str]) -> None:
        """See `Store.bury`."""
        await self._fetch(queries.BURY, [*workers])


class _Open:
    """What a store has while it is open."""

    def __init__(self, pool: Pool, patience: float, listening: Listening) -> None:
        self._pool = pool
        self.connections = Connections(pool, patience)
        self.batches = Batches(self.connections, _LANES, 500)
        self.loads = Batches(self.connections, 1, 50)  # logs may be long
        self.listening = listening

    async def close(self, *, owned: bool) -> None:
        """Wait for what is under way; also while the caller is cancelled, but not for ever."""
        self.connections.closing = True
        with anyio.move_on_after(_GRACE, shield=True) as scope:
            await self.listening.close()
            await self.batches.close()
            await self.loads.close()
            if owned:
                await self._pool.close()
        if owned and scope.cancelled_caught:
            self._pool.terminate()


def _refuse_trio() -> None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    if task is None:
        raise StoreError(
            "PostgresStore runs on asyncio only, because its driver asyncpg does: "
            'run the program with anyio.run(main, backend="asyncio"), or keep the runs in a SQLiteStore'
        )
