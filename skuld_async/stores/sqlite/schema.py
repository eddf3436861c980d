"""The tables of a SQLite store, and how a file gets them.

The rules:

1. A step writes two small rows: `runs` has no payload that it would have to write again, and chunks are only added at
   the end of their table, so that those of many runs share pages.
2. Runs are numbered (``key``); whoever finds a row by its key compares the id too, since numbers are used again.
3. `notices` counts the commits of which a listener is told; other processes compare it.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Literal, TypeAlias

from skuld_async.durable.errors import StoreSchemaError

from .errors import explained, is_busy, primary_code

Synchronous: TypeAlias = Literal["full", "normal"]

APPLICATION = 0x534B4C44
"""``PRAGMA application_id`` of our files: the letters SKLD."""

NEEDED = (3, 33)
"""The first SQLite that has UPDATE ... FROM."""

WHAT_IT_IS = """
    SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
    (SELECT count(*) FROM sqlite_master)
"""
"""One statement sees one state: another process may be making the tables."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # key is what the other tables call a run; last_worker and last_token recognise an append that is repeated.
        """
        CREATE TABLE runs (
            key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL, version TEXT, tags TEXT NOT NULL,
            status TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL, wake REAL, owner TEXT,
            token INTEGER NOT NULL, appends INTEGER NOT NULL, inbox INTEGER NOT NULL, events INTEGER NOT NULL,
            recoveries INTEGER NOT NULL, last_worker TEXT, last_token INTEGER, attention TEXT, error BLOB, result BLOB
        )
        """,
        # Has all that is asked of a run: those of other workflows are passed over without a look at their rows.
        "CREATE INDEX runs_due ON runs (wake, key, workflow, owner) WHERE owner IS NULL AND wake IS NOT NULL",
        "CREATE INDEX runs_owned ON runs (owner) WHERE owner IS NOT NULL",
        "CREATE INDEX runs_ended ON runs (updated) WHERE status IN ('completed', 'failed', 'cancelled')",
        "CREATE INDEX runs_attention ON runs (attention) WHERE attention IS NOT NULL",
        "CREATE INDEX runs_by_age ON runs (created, id)",
        "CREATE INDEX runs_by_workflow ON runs (workflow, created, id)",
        "CREATE INDEX runs_by_status ON runs (status, created, id)",
        """
        CREATE TABLE run_tags (
            tag TEXT, created REAL, id TEXT, run INTEGER NOT NULL, PRIMARY KEY (tag, created, id)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE arguments (run INTEGER PRIMARY KEY, data BLOB NOT NULL)",
        "CREATE TABLE chunks (place INTEGER PRIMARY KEY, run INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB)",
        "CREATE UNIQUE INDEX chunks_of_run ON chunks (run, number)",
        """
        CREATE TABLE waits (
            run TEXT NOT NULL, id TEXT NOT NULL, digest TEXT NOT NULL, sig TEXT NOT NULL, question BLOB NOT NULL,
            schema BLOB NOT NULL, opened REAL NOT NULL, workflow TEXT NOT NULL, tags TEXT NOT NULL, name TEXT,
            assignee TEXT, deadline REAL, state TEXT NOT NULL, answer BLOB, answered_by TEXT NOT NULL, answered REAL,
            PRIMARY KEY (run, id)
        )
        """,
        "CREATE INDEX waits_by_age ON waits (opened, run, id) WHERE state = 'open'",
        "CREATE INDEX waits_by_workflow ON waits (workflow, opened, run, id) WHERE state = 'open'",
        "CREATE INDEX waits_by_assignee ON waits (assignee, opened, run, id) WHERE state = 'open'",
        # Of open waits only.
        """
        CREATE TABLE wait_tags (
            tag TEXT, opened REAL, run TEXT, id TEXT, PRIMARY KEY (tag, opened, run, id)
        ) WITHOUT ROWID
        """,
        # fate is null until the message is folded in.
        """
        CREATE TABLE messages (
            place INTEGER PRIMARY KEY, run INTEGER NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL,
            wait TEXT NOT NULL, name TEXT NOT NULL, body BLOB NOT NULL, sender TEXT NOT NULL, at REAL NOT NULL,
            fate TEXT
        )
        """,
        "CREATE UNIQUE INDEX messages_of_run ON messages (run, number)",
        "CREATE INDEX messages_unread ON messages (run, number) WHERE fate IS NULL",
        """
        CREATE TABLE events (
            place INTEGER PRIMARY KEY, run INTEGER NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL,
            data BLOB NOT NULL
        )
        """,
        "CREATE UNIQUE INDEX events_of_run ON events (run, number)",
        """
        CREATE TABLE workers (
            id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, born TEXT NOT NULL, workflows TEXT NOT NULL,
            beat INTEGER NOT NULL
        )
        """,
        "CREATE TABLE notices (changes INTEGER NOT NULL)",
        "INSERT INTO notices VALUES (0)",
    ),
)
"""What brings a file of version n to version n + 1; the version is in ``PRAGMA user_version``."""


def connect(path: str, synchronous: Synchronous, timeout: float) -> sqlite3.Connection:
    """A connection for the calling thread, on a file that is a store; no transaction is begun by itself."""
    connection = _opened(path, timeout)
    try:
        _set_up(connection, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def create(path: str, synchronous: Synchronous, timeout: float) -> sqlite3.Connection:
    """The same on any file: it becomes a store if it is new or empty, and one of today's version if it is older.

    Raises:
        StoreSchemaError: The file is something else, or of a later version, or this SQLite is too old for it.
    """
    if sqlite3.sqlite_version_info < NEEDED:
        raise StoreSchemaError(
            path,
            f"it needs SQLite {'.'.join(map(str, NEEDED))}, and this Python has {sqlite3.sqlite_version}",
            "Use a Python that was built with a later one",
        )
    connection = _opened(path, timeout)
    try:
        # Two processes that turn a new file to WAL at once are not made to wait for each other by SQLite.
        deadline = time.monotonic() + timeout
        while True:
            try:
                _check(connection, path)
                _to_wal(connection, path)
                _migrate(connection, path)
            except sqlite3.Error as error:
                if not is_busy(error) or time.monotonic() > deadline:
                    raise explained(error, path, timeout) from error
                time.sleep(0.01)
            else:
                _set_up(connection, synchronous)
                return connection
    except BaseException:
        connection.close()
        raise


def _opened(path: str, timeout: float) -> sqlite3.Connection:
    try:
        return sqlite3.connect(path, timeout=timeout, isolation_level=None, cached_statements=256)
    except sqlite3.Error as error:
        raise explained(error, path, timeout) from error


def _set_up(connection: sqlite3.Connection, synchronous: Synchronous) -> None:
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA cache_size = -8000")  # KiB: a batch that does not fit is written twice


def _check(connection: sqlite3.Connection, path: str) -> int:
    """The version of a file that is ours, or that is empty (0)."""
    try:
        application, version, tables = connection.execute(WHAT_IT_IS).fetchone()
    except sqlite3.DatabaseError as error:
        if primary_code(error) != sqlite3.SQLITE_NOTADB:
            raise
        raise StoreSchemaError(path, "this is no SQLite database", "Give the store a path of its own") from error
    known: int = version
    if application != APPLICATION and (application or known or tables):
        raise StoreSchemaError(path, "this is a SQLite database of another program", "Give the store a path of its own")
    if known > len(MIGRATIONS):
        raise StoreSchemaError(
            path,
            f"it was written by a later release (its schema has version {known}, this one knows {len(MIGRATIONS)})",
            "Install that release here too, or restore a back-up that is older",
        )
    return known


def _to_wal(connection: sqlite3.Connection, path: str) -> None:
    mode = connection.execute("PRAGMA journal_mode = wal").fetchone()[0]
    if mode != "wal":
        raise StoreSchemaError(
            path,
            f"it cannot have a write-ahead log here (its journal mode stays {mode})",
            "Put it on a local disk: network file systems lack the shared memory that this needs",
        )


def _migrate(connection: sqlite3.Connection, path: str) -> None:
    if _check(connection, path) == len(MIGRATIONS):
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        # Another process may have done it meanwhile.
        for migration in MIGRATIONS[_check(connection, path) :]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
