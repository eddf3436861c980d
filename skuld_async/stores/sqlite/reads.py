"""What is read of runs: their records, logs, messages and events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.durable.records import Message, NewEvent

from .rows import RUN, marks, run_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from skuld_async.durable.records import RunFilter, RunRecord

    from .rows import Row

FIND = f"SELECT {RUN} FROM runs r JOIN arguments a ON a.run = r.key WHERE r.id = ?"  # noqa: S608 - RUN are columns
CHUNKS = "SELECT data FROM chunks WHERE run = ? ORDER BY number"
MESSAGE = "number, kind, wait, name, body, sender, at"
UNREAD = f"SELECT {MESSAGE} FROM messages WHERE run = ? AND fate IS NULL ORDER BY number"  # noqa: S608 - columns
MESSAGES = f"SELECT {MESSAGE}, fate FROM messages WHERE run = ? ORDER BY number"  # noqa: S608 - columns
MAIL = """
    SELECT r.id, r.inbox FROM runs r INDEXED BY runs_owned
    WHERE r.owner = ? AND EXISTS (SELECT 1 FROM messages m WHERE m.run = r.key AND m.fate IS NULL)
"""


def get(connection: sqlite3.Connection, run: str) -> RunRecord | None:
    """See `Store.get`."""
    row: Row | None = connection.execute(FIND, (run,)).fetchone()
    return None if row is None else run_of(row)


def load(connection: sqlite3.Connection, run: str) -> tuple[Sequence[bytes], Sequence[Message]]:
    """See `Store.load`."""
    chunks: list[tuple[bytes]] = connection.execute(CHUNKS, (_key(connection, run),)).fetchall()
    return [data for (data,) in chunks], inbox(connection, run)


def inbox(connection: sqlite3.Connection, run: str) -> Sequence[Message]:
    """See `Store.inbox`."""
    rows: list[Row] = connection.execute(UNREAD, (_key(connection, run),)).fetchall()
    return [Message(*row) for row in rows]


def list_messages(connection: sqlite3.Connection, run: str) -> Sequence[tuple[Message, str | None]]:
    """See `Store.messages`."""
    rows: list[Row] = connection.execute(MESSAGES, (_key(connection, run),)).fetchall()
    return [(Message(*row[:-1]), row[-1]) for row in rows]


def list_events(connection: sqlite3.Connection, item: tuple[str, int, int]) -> Sequence[NewEvent]:
    """See `Store.events`."""
    run, after, limit = item
    rows: list[Row] = connection.execute(
        "SELECT number, at, data FROM events WHERE run = ? AND number > ? ORDER BY number LIMIT ?",
        (_key(connection, run), after, limit),
    ).fetchall()
    return [NewEvent(*row) for row in rows]


def mail(connection: sqlite3.Connection, worker: str) -> Sequence[tuple[str, int]]:
    """See `Store.mail`."""
    return connection.execute(MAIL, (worker,)).fetchall()


def list_runs(
    connection: sqlite3.Connection, item: tuple[RunFilter, tuple[float, str] | None, int]
) -> Sequence[RunRecord]:
    """See `Store.runs`."""
    only, after, limit = item
    query, values = runs_query(only, after)
    return [run_of(row) for row in connection.execute(query, (*values, limit)).fetchall()]


def runs_query(only: RunFilter, after: tuple[float, str] | None) -> tuple[str, Row]:
    """The list as one query, whose last parameter is the limit: an index gives its order."""
    terms = ["1"]
    values: Row = ()
    source, ordered = "runs r", "r"
    if only.tag is not None:
        source, ordered = "run_tags t CROSS JOIN runs r ON r.key = t.run", "t"
        terms.append("t.tag = ?")
        values += (only.tag,)
    if only.workflow is not None:
        terms.append("r.workflow = ?")
        values += (only.workflow,)
    if only.statuses is not None:
        # Several in an index would have to be sorted; one need not be.
        terms.append("r.status = ?" if len(only.statuses) == 1 else f"+r.status IN ({marks(only.statuses)})")
        values += only.statuses
    if after is not None:
        terms.append(f"({ordered}.created, {ordered}.id) < (?, ?)")
        values += after
    query = (
        f"SELECT {RUN} FROM {source} CROSS JOIN arguments a ON a.run = r.key WHERE {' AND '.join(terms)} "  # noqa: S608
        f"ORDER BY {ordered}.created DESC, {ordered}.id DESC LIMIT ?"
    )
    return query, values


def _key(connection: sqlite3.Connection, run: str) -> int | None:
    row: Row | None = connection.execute("SELECT key FROM runs WHERE id = ?", (run,)).fetchone()
    return None if row is None else row[0]
