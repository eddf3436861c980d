"""Connections: what a store does on its pool, tried again when the connection is lost."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import anyio

from .driver import is_passing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .driver import Connection, Pool

T = TypeVar("T")

_FIRST, _LONGEST = 0.02, 1.0  # seconds between two attempts


class Connections:
    """The connections of a store that is open.

    Args:
        pool: Where they come from.
        patience: For how many seconds what failed for a passing reason is tried again. Everything that a store does
            may be done twice (rule 3 of the protocol).
    """

    def __init__(self, pool: Pool, patience: float) -> None:
        self._pool = pool
        self._patience = patience
        self.closing = False
        """Whether nothing is tried again any more."""

    async def call(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do *work* on some connection."""

        async def attempt() -> T:
            async with self._pool.acquire() as connection:
                return await work(connection)

        return await self.patiently(attempt)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Await *attempt*, again and again while it fails for a passing reason."""
        since: float | None = None
        delay = _FIRST
        while True:
            try:
                return await attempt()
            except Exception as error:
                since = time.monotonic() if since is None else since
                is_over = self.closing or time.monotonic() + delay > since + self._patience
                if is_over or not is_passing(error):
                    raise
            await anyio.sleep(delay)
            delay = min(2 * delay, _LONGEST)

    def hold(self) -> Held:
        """One that stays with the caller between its uses."""
        return Held(self._pool)


class Held:
    """A connection that is not given back to the pool after each use, which may cost a round trip."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._connection: Connection | None = None

    async def use(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do *work* on it; where it was lost, the next use takes another one."""
        connection = self._connection
        if connection is None:
            taken: Connection = await self._pool.acquire()
            connection = self._connection = taken
        try:
            return await work(connection)
        except Exception as error:
            if is_passing(error):
                await self.release()
            raise

    async def release(self) -> None:
        """Give it back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # where it cannot be reset the pool has closed it
                await self._pool.release(connection)
