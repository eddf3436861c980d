"""Runs: created, requeued, removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from skuld_async.durable.records import PARKED, RunRecord

from .append import ADD_CHUNK
from .reads import FIND
from .rows import marks, packed, run_of, unpacked

if TYPE_CHECKING:
    from collections.abc import Collection

    from skuld_async.durable.records import NewRun

    from .rows import Row
    from .writer import Desk

REQUEUE = """
    UPDATE runs SET status = 'running', updated = ?, wake = 0, recoveries = 0, error = NULL, attention = NULL
    WHERE key = ?
"""
EXPIRED = """
    SELECT key, id, created, tags FROM runs INDEXED BY runs_ended
    WHERE status IN ('completed', 'failed', 'cancelled') AND updated < ? ORDER BY updated LIMIT ?
"""


def create(desk: Desk, item: tuple[NewRun, str | None]) -> RunRecord:
    """See `Store.create`."""
    run, worker = item
    row: Row | None = desk.execute(FIND, (run.id,)).fetchone()
    if row is not None:
        return run_of(row)
    owner = None if run.paused else worker
    record = RunRecord(
        id=run.id,
        workflow=run.workflow,
        version=run.version,
        arguments=run.arguments,
        tags=run.tags,
        status="paused" if run.paused else "running",
        created=run.at,
        updated=run.at,
        wake=0.0 if worker is None and not run.paused else None,
        owner=owner,
        token=0 if owner is None else 1,
        appends=1,
    )
    tags = packed(run.tags)
    desk.execute(
        "INSERT INTO runs (id, workflow, version, tags, status, created, updated, wake, owner, token, appends, inbox, "
        "events, recoveries) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0, 0)",
        (run.id, run.workflow, run.version, tags, record.status, run.at, run.at, record.wake, owner, record.token),
    )
    key = desk.cursor.lastrowid
    assert key is not None
    desk.execute("INSERT INTO arguments VALUES (?, ?)", (key, run.arguments))
    desk.execute(ADD_CHUNK, (key, 1, run.chunk))
    for tag in set(run.tags):
        desk.execute("INSERT INTO run_tags VALUES (?, ?, ?, ?)", (tag, run.at, run.id, key))
    desk.remember(run.id, key)
    if owner is None:
        desk.changed.add(run.id)
    return record


def requeue(desk: Desk, item: tuple[str, float]) -> bool:
    """See `Store.requeue`."""
    run, now = item
    row: Row | None = desk.execute("SELECT key, status FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None or row[1] not in PARKED:
        return False
    desk.execute(REQUEUE, (now, row[0]))
    desk.changed.add(run)
    return True


def requeue_known(desk: Desk, item: tuple[str, Collection[str], float]) -> int:
    """See `Store.requeue_known`."""
    attention, workflows, now = item
    rows: list[Row] = desk.execute(
        "SELECT key, id FROM runs "  # noqa: S608 - of question marks
        f"WHERE attention = ? AND status = 'needs_attention' AND workflow IN ({marks(workflows)})",
        (attention, *workflows),
    ).fetchall()
    desk.cursor.executemany(REQUEUE, [(now, key) for key, _ in rows])
    desk.changed.update(run for _, run in rows)
    return len(rows)


def delete(desk: Desk, run: str) -> Literal["deleted", "owned", "unknown"]:
    """See `Store.delete`."""
    row: Row | None = desk.execute("SELECT key, id, created, tags, owner FROM runs WHERE id = ?", (run,)).fetchone()
    if row is None:
        return "unknown"
    if row[4] is not None:
        return "owned"
    _remove(desk, row)
    return "deleted"


def expire(desk: Desk, item: tuple[float, int]) -> int:
    """See `Store.expire`."""
    rows: list[Row] = desk.execute(EXPIRED, item).fetchall()
    for row in rows:
        _remove(desk, row)
    return len(rows)


def _remove(desk: Desk, row: Row) -> None:
    key, run, created, tags, *_ = row
    for tag in unpacked(tags):
        desk.execute("DELETE FROM run_tags WHERE tag = ? AND created = ? AND id = ?", (tag, created, run))
    open_waits: list[Row] = desk.execute(
        "SELECT id, opened, tags FROM waits WHERE run = ? AND state = 'open'", (run,)
    ).fetchall()
    for wait, opened, words in open_waits:
        for tag in unpacked(words):
            desk.execute(
                "DELETE FROM wait_tags WHERE tag = ? AND opened = ? AND run = ? AND id = ?", (tag, opened, run, wait)
            )
    desk.execute("DELETE FROM waits WHERE run = ?", (run,))
    for table in ("arguments", "chunks", "messages", "events"):
        desk.execute(f"DELETE FROM {table} WHERE run = ?", (key,))  # noqa: S608 - of the words above
    desk.execute("DELETE FROM runs WHERE key = ?", (key,))
    desk.keys.pop(run, None)
