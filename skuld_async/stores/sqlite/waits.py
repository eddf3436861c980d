"""Questions: opened and closed by appends, answered by anybody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import WAIT, packed, unpacked, wait_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from skuld_async.durable.records import WaitFilter, WaitRecord

    from .rows import Row
    from .writer import Desk

NOT_CLOSED = "SELECT id FROM waits WHERE run = ? AND state <> 'closed'"


def put_wait(desk: Desk, wait: WaitRecord) -> None:
    """Open a question; one of that id is replaced."""
    hide_wait(desk, wait.run, wait.id)
    values = (
        wait.run,
        wait.id,
        wait.digest,
        wait.sig,
        wait.question,
        wait.schema,
        wait.opened,
        wait.workflow,
        packed(wait.tags),
        wait.name,
        wait.assignee,
        wait.deadline,
        wait.state,
        wait.answer,
        wait.answered_by,
        wait.answered,
    )
    desk.execute("INSERT OR REPLACE INTO waits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    if wait.state == "open":
        for tag in set(wait.tags):
            desk.execute("INSERT INTO wait_tags VALUES (?, ?, ?, ?)", (tag, wait.opened, wait.run, wait.id))


def close_wait(desk: Desk, run: str, wait: str) -> None:
    """No answer is taken any more; one that was given stays."""
    hide_wait(desk, run, wait)
    desk.execute("UPDATE waits SET state = 'closed' WHERE run = ? AND id = ?", (run, wait))


def hide_wait(desk: Desk, run: str, wait: str) -> None:
    """Remove the tags of an open question, before it is one no more."""
    row: Row | None = desk.execute(
        "SELECT tags, opened FROM waits WHERE run = ? AND id = ? AND state = 'open'", (run, wait)
    ).fetchone()
    if row is not None:
        for tag in set(unpacked(row[0])):
            desk.execute(
                "DELETE FROM wait_tags WHERE tag = ? AND opened = ? AND run = ? AND id = ?", (tag, row[1], run, wait)
            )


def get_wait(connection: sqlite3.Connection, item: tuple[str, str]) -> WaitRecord | None:
    """See `Store.wait`."""
    row: Row | None = connection.execute(
        f"SELECT {WAIT} FROM waits w WHERE w.run = ? AND w.id = ?",  # noqa: S608 - WAIT are columns
        item,
    ).fetchone()
    return None if row is None else wait_of(row)


def list_waits(
    connection: sqlite3.Connection, item: tuple[WaitFilter, tuple[float, str, str] | None, int]
) -> Sequence[WaitRecord]:
    """See `Store.waits`."""
    only, after, limit = item
    query, values = inbox_query(only, after)
    return [wait_of(row) for row in connection.execute(query, (*values, limit)).fetchall()]


def inbox_query(only: WaitFilter, after: tuple[float, str, str] | None) -> tuple[str, Row]:
    """The inbox as one query, whose last parameter is the limit: the first index that fits gives its order too."""
    terms = ["w.state = 'open'"]
    values: Row = ()
    source, ordered = "waits w", "w"
    if only.tag is not None:
        source, ordered = "wait_tags t CROSS JOIN waits w ON w.run = t.run AND w.id = t.id", "t"
        terms.append("t.tag = ?")
        values += (only.tag,)
    for column, wanted in (
        ("run", only.run),
        ("workflow", only.workflow),
        ("assignee", only.assignee),
        ("name", only.name),
    ):
        if wanted is not None:
            terms.append(f"w.{column} = ?")
            values += (wanted,)
    if only.opened_before is not None:
        terms.append(f"{ordered}.opened < ?")
        values += (only.opened_before,)
    place = f"{ordered}.opened, {ordered}.run, {ordered}.id"
    if after is not None:
        terms.append(f"({place}) > (?, ?, ?)")
        values += after
    query = f"SELECT {WAIT} FROM {source} WHERE {' AND '.join(terms)} ORDER BY {place} LIMIT ?"  # noqa: S608
    return query, values
