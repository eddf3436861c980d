"""The reader: a thread with a connection that only reads.

It sees all that was committed before, and waits for no writer: neither for one that waits for its disk, nor for one of
another process that keeps the file locked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import explained
from .schema import connect
from .thread import DatabaseThread

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from skuld_async.stores._replies import Homes

    from .thread import Operation, Outcome


class Reader(DatabaseThread):
    """Reads; its desk is the connection."""

    connection: sqlite3.Connection

    def __init__(self, path: str, timeout: float, homes: Homes) -> None:
        super().__init__("skuld-sqlite-reader", f"SQLiteStore({path!r})", homes)
        self._path = path
        self._timeout = timeout

    def open(self) -> None:
        """See `DatabaseThread.open`."""
        self.connection = connect(self._path, "full", self._timeout)
        self.connection.execute("PRAGMA query_only = on")

    def idle(self) -> None:
        """See `DatabaseThread.idle`."""

    def close(self) -> None:
        """See `DatabaseThread.close`."""
        self.connection.close()

    def perform(self, batch: Sequence[Operation]) -> Sequence[Outcome]:
        """Each sees one state of the database."""
        outcomes: list[Outcome] = []
        for operation in batch:
            try:
                self.connection.execute("BEGIN")
                try:
                    outcomes.append((operation, operation.work(self.connection, operation.item), None))
                finally:
                    self.connection.execute("COMMIT")
            except Exception as error:
                outcomes.append((operation, None, explained(error, self._path, self._timeout)))
        return outcomes
