"""The writer: the only thread that writes, many operations to a commit.

The rules:

1. An operation checks first and writes then: one that is refused (`StoreError`) leaves nothing behind.
2. Where anything else goes wrong, the transaction is rolled back, and each operation of the batch gets one of its own:
   only those fail that are guilty.
3. Results are passed on when they are committed.
"""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from skuld_async.durable.errors import StoreError

from .append import append
from .bulk import SomeRefused, append_plain, is_plain
from .errors import explained, is_busy
from .schema import create
from .thread import DatabaseThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skuld_async.durable.records import Append
    from skuld_async.stores._replies import Homes

    from .listening import SQLiteListener
    from .schema import Synchronous
    from .thread import Operation, Outcome

KEYS = 50_000
"""Runs whose keys are remembered."""


class Desk:
    """What an operation writes with."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.execute: Callable[..., sqlite3.Cursor] = self.cursor.execute
        self.changed: set[str] = set()
        """Runs of this transaction that a listener is told of."""
        self.keys: dict[str, int] = {}
        """Keys of runs. A run may be gone, and its key that of another one: the id is compared with each use."""

    def remember(self, run: str, key: int) -> None:
        """Know the key of a run next time."""
        if len(self.keys) >= KEYS:
            self.keys.clear()
        self.keys[run] = key


class Writer(DatabaseThread):
    """Writes, and hears of what others have written."""

    desk: Desk

    def __init__(self, path: str, synchronous: Synchronous, timeout: float, poll: float, homes: Homes) -> None:
        super().__init__("skuld-sqlite-writer", f"SQLiteStore({path!r})", homes)
        self._path = path
        self._synchronous: Synchronous = synchronous
        self._timeout = timeout
        self._poll = poll
        self._listeners: list[SQLiteListener] = []
        self._version = 0
        self._changes = 0
        self._looked = 0.0

    # -- listeners ---------------------------------------------------------------------------------------------------

    def attach(self, desk: Desk, listener: SQLiteListener) -> None:
        """An operation: tell *listener* what changes from now on."""
        self._look(desk.execute)
        self._listeners.append(listener)
        self.patience = self._poll

    def idle(self) -> None:
        """Look whether another process has written; our own commits do not change the version that we see."""
        if not self._listeners or time.monotonic() - self._looked < self._poll / 2:
            return
        self._listeners = [listener for listener in self._listeners if not listener.is_closed]
        self.patience = self._poll if self._listeners else None
        self._looked = time.monotonic()
        execute = self.desk.connection.execute
        try:
            version = execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:
                self._look(execute)
                self._version = version
        except sqlite3.Error:
            pass  # it is looked again soon, and an operation says what is wrong

    def _look(self, execute: Callable[..., sqlite3.Cursor], ours: int = 0) -> None:
        """Tell listeners if there were changes other than *ours*."""
        changes: int = execute("SELECT changes FROM notices").fetchone()[0]
        if changes != self._changes + ours:
            self._tell(None)
        self._changes = changes

    def _tell(self, changed: frozenset[str] | None) -> None:
        for listener in self._listeners:
            listener.home.soon(listener.hear, changed)

    # -- operations --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """See `DatabaseThread.open`."""
        self.desk = Desk(create(self._path, self._synchronous, self._timeout))

    def close(self) -> None:
        """Put what is in the write-ahead log into the database, so that a small one is left, or none."""
        connection = self.desk.connection
        try:
            connection.execute("PRAGMA busy_timeout = 1000")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # whoever opens the file next does it
        finally:
            connection.close()

    def perform(self, batch: Sequence[Operation]) -> Sequence[Outcome]:
        """See `DatabaseThread.perform`."""
        try:
            self.desk.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            return self._failed(batch, error)
        try:
            return self._commit(batch)
        except Exception as error:
            self._roll_back()
            if len(batch) == 1:
                return self._failed(batch, error)
        outcomes: list[Outcome] = []
        for place, operation in enumerate(batch):
            outcomes += self.perform([operation])
            failed = outcomes[-1][2]
            if isinstance(failed, sqlite3.Error) and is_busy(failed):
                return [*outcomes, *self._failed(batch[place + 1 :], failed)]  # they need not wait for it one by one
        return outcomes

    def _commit(self, batch: Sequence[Operation]) -> list[Outcome]:
        desk = self.desk
        outcomes, others = self._append_plain(batch)
        for operation in others:
            try:
                outcomes.append((operation, operation.work(desk, operation.item), None))
            except StoreError as refusal:
                outcomes.append((operation, None, refusal))
        if desk.changed:
            desk.execute("UPDATE notices SET changes = changes + 1")
            if self._listeners:
                self._look(desk.execute, ours=1)
        desk.execute("COMMIT")
        if desk.changed:
            if self._listeners:
                self._tell(frozenset(desk.changed))
            desk.changed.clear()
        return outcomes

    def _append_plain(self, batch: Sequence[Operation]) -> tuple[list[Outcome], Sequence[Operation]]:
        """Do the plain appends of a batch first; the second part is what is left to do."""
        keys = self.desk.keys
        outcomes: list[Outcome] = []
        others: list[Operation] = []
        items: list[tuple[int, Append]] = []
        for operation in batch:
            item = operation.item
            if operation.work is append and is_plain(item) and (key := keys.get(item.run)) is not None:
                items.append((key, item))
                outcomes.append((operation, None, None))
            else:
                others.append(operation)
        try:
            append_plain(self.desk, items)
        except SomeRefused:  # nothing else was done yet
            self.desk.execute("ROLLBACK")
            self.desk.execute("BEGIN IMMEDIATE")
            return [], batch
        return outcomes, others

    def _roll_back(self) -> None:
        desk = self.desk
        desk.changed.clear()
        desk.keys.clear()  # of runs that are not there now
        if desk.connection.in_transaction:  # SQLite ends some by itself: when the disk is full
            desk.execute("ROLLBACK")

    def _failed(self, batch: Sequence[Operation], error: Exception) -> list[Outcome]:
        return [(operation, None, explained(error, self._path, self._timeout)) for operation in batch]
