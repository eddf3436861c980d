"""The heart of a worker: beats from a thread of its own, over a connection of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .driver import connect

if TYPE_CHECKING:
    from skuld_async.durable.records import WorkerRecord

    from .driver import Connection
    from .schema import Schema

_TIMEOUT = 5.0  # seconds: a beat that takes longer has failed, the next one is made over another connection
_BEAT = """
    INSERT INTO SCHEMA.workers (id, host, pid, born, workflows, beat) VALUES ($1, $2, $3, $4, $5, 1)
    ON CONFLICT (id) DO UPDATE SET beat = workers.beat + 1
"""
_STOP = "DELETE FROM SCHEMA.workers WHERE id = $1"


class PostgresHeart:
    """Beats for *worker*; it has an event loop, in the thread that uses it."""

    def __init__(self, dsn: str | None, schema: Schema, worker: WorkerRecord) -> None:
        self._dsn = dsn
        self._schema = schema
        self._worker = worker
        self._loop = asyncio.new_event_loop()
        self._connection: Connection | None = None

    def beat(self) -> None:
        """See `Heart.beat`. Raises where the server is not there; the next beat connects again."""
        one = self._worker
        self._execute(_BEAT, one.id, one.host, one.pid, one.born, one.workflows)

    def close(self) -> None:
        """See `Heart.close`."""
        try:
            self._execute(_STOP, self._worker.id)
        finally:
            self._drop()
            self._loop.close()

    def _execute(self, statement: str, *values: object) -> None:
        try:
            self._loop.run_until_complete(self._send(self._schema.sql(statement), *values))
        except Exception:
            self._drop()
            raise

    async def _send(self, statement: str, *values: object) -> None:
        if self._connection is None:
            self._connection = await connect(self._dsn, _TIMEOUT)
        async with asyncio.timeout(_TIMEOUT):
            await self._connection.execute(statement, *values)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
            self._loop.run_until_complete(asyncio.sleep(0))  # lets the transport close its socket
