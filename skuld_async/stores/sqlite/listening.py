"""What hears of changes in a SQLite file, by this process or by another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Collection

    from skuld_async.stores._replies import Home

MANY = 10_000
"""Runs that are remembered for a listener that does not ask; beyond that it is told of no one in particular."""


class SQLiteListener:
    """See `Listener`: told by the writer, in the event loop of whoever listens."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.is_closed = False
        self._changed: set[str] | None = set()
        self._told = anyio.Event()

    def hear(self, changed: frozenset[str] | None) -> None:
        """Runs changed; which ones is not known if another process has written."""
        if changed is None or self._changed is None or len(self._changed) > MANY:
            self._changed = None
        else:
            self._changed |= changed
        self._told.set()

    async def changed(self, within: float) -> Collection[str] | None:
        """See `Listener.changed`."""
        with anyio.move_on_after(within):
            await self._told.wait()
        changed, self._changed, self._told = self._changed, set(), anyio.Event()
        return changed
