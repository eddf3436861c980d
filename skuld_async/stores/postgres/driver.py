"""asyncpg, and what of it is used here: it declares no types of its own."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractAsyncContextManager

try:
    asyncpg: Any = import_module("asyncpg")
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "PostgresStore needs the package asyncpg: pip install 'skuld-async[postgres]'", name=missing.name
    ) from missing

Row: TypeAlias = Any
"""A record: its columns by name and by number."""


class Connection(Protocol):
    """One connection, of a pool or not."""

    async def execute(self, query: str, *arguments: object) -> str: ...

    async def fetch(self, query: str, *arguments: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *arguments: object) -> Row | None: ...

    async def fetchval(self, query: str, *arguments: object) -> Any: ...

    async def fetchmany(self, query: str, rows: Iterable[Sequence[object]]) -> list[Row]:
        """Run it once for each row, in one commit and one round trip; gives the rows of all in one list."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]: ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    def add_termination_listener(self, callback: Callable[..., None]) -> None: ...

    def terminate(self) -> None: ...


class Pool(Protocol):
    """A pool of connections, as ``asyncpg.create_pool`` makes it."""

    def acquire(self) -> Any: ...

    async def release(self, connection: Any) -> None: ...

    async def close(self) -> None: ...

    def terminate(self) -> None: ...

    def get_max_size(self) -> int: ...


async def connect(dsn: str | None, within: float) -> Connection:
    """A connection that belongs to no pool, made within some seconds."""
    connection: Connection = await asyncpg.connect(dsn, timeout=within)
    return connection


async def open_pool(dsn: str | None, size: int) -> Pool:
    """A pool of up to *size* connections; they are made when they are needed."""
    # Nothing here leaves anything behind in a session, so that the round trip which resets it can be saved.
    pool: Pool = await asyncpg.create_pool(dsn, min_size=0, max_size=size, reset=_leave)
    return pool


async def _leave(_connection: Connection) -> None:
    """Leave a session as it is."""


def is_passing(error: BaseException) -> bool:
    """Whether it may go away by itself: the connection was lost, the server restarts, two transactions collided."""
    if isinstance(error, ValueError):  # an InterfaceError too: of a dsn that cannot be right
        return False
    return isinstance(
        error,
        (
            OSError,  # TimeoutError is one of these
            asyncpg.InterfaceError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.TooManyConnectionsError,
            asyncpg.TransactionRollbackError,
            asyncpg.InternalClientError,
        ),
    )
