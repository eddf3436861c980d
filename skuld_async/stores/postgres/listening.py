"""LISTEN: one connection of a store hears of all changes, and tells everybody in this process who listens."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from .driver import connect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from .driver import Connection

_FIRST, _LONGEST = 0.02, 1.0  # seconds between two attempts to connect
_QUIET = 15.0  # seconds: then the connection is asked whether it is still there
_TIMEOUT = 5.0  # seconds to connect, and for its answer
_MANY = 10_000  # ids: beyond that it is cheaper to look at everything


class PostgresListener:
    """One who listens."""

    def __init__(self) -> None:
        self._changed: set[str] | None = set()
        self._told = anyio.Event()

    def tell(self, run: str) -> None:
        """Say that *run* has changed; without an id, that any may have."""
        if not run or (self._changed is not None and len(self._changed) >= _MANY):
            self._changed = None
        elif self._changed is not None:
            self._changed.add(run)
        self._told.set()

    async def changed(self, within: float) -> Collection[str] | None:
        """See `Listener.changed`. None after a lost connection: what happened meanwhile was not heard."""
        with anyio.move_on_after(within):
            await self._told.wait()
        changed, self._changed, self._told = self._changed, set(), anyio.Event()
        return changed


class Listening:
    """The connection that listens; it is opened for the first listener, and again whenever it is lost.

    Args:
        dsn: Where it connects to, past any pooler that gives a connection to another client after each transaction.
        channel: What it listens to.
        patience: For how many seconds a new listener waits for a connection.
    """

    def __init__(self, dsn: str | None, channel: str, patience: float) -> None:
        self._dsn = dsn
        self._channel = channel
        self._patience = patience
        self._listeners: list[PostgresListener] = []
        self._task: asyncio.Task[None] | None = None
        self._hears = anyio.Event()
        self._error: Exception | None = None

    @asynccontextmanager
    async def listen(self) -> AsyncGenerator[PostgresListener]:
        """See `Store.listen`."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())
        with anyio.move_on_after(self._patience) as scope:
            await self._hears.wait()
        if scope.cancelled_caught:
            raise self._error or TimeoutError("PostgreSQL did not answer LISTEN")
        listener = PostgresListener()
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    async def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _keep(self) -> None:
        """Listen for ever."""
        delay = _FIRST
        while True:
            try:
                connection = await connect(self._dsn, _TIMEOUT)
                try:
                    await connection.add_listener(self._channel, self._heard)
                    delay = _FIRST
                    self._tell_all("")
                    self._hears.set()
                    await _until_lost(connection)
                finally:
                    if self._hears.is_set():
                        self._hears = anyio.Event()
                    connection.terminate()
            except Exception as error:  # the next attempt may find the server again
                self._error = error
            await asyncio.sleep(delay)
            delay = min(2 * delay, _LONGEST)

    def _heard(self, _connection: object, _process: int, _channel: str, run: str) -> None:
        self._tell_all(run)

    def _tell_all(self, run: str) -> None:
        for listener in self._listeners:
            listener.tell(run)


async def _until_lost(connection: Connection) -> None:
    lost = asyncio.Event()

    def lose(_connection: object) -> None:
        lost.set()

    connection.add_termination_listener(lose)
    while not lost.is_set():
        try:
            async with asyncio.timeout(_QUIET):
                await lost.wait()
        except TimeoutError:
            async with asyncio.timeout(_TIMEOUT):
                await connection.execute("SELECT 1")
