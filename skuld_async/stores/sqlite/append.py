"""An append that may be of any kind; the plain ones of many runs are in `bulk`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError, WaitTakenError
from skuld_async.durable.records import ENDED

from .waits import NOT_CLOSED, close_wait, put_wait

if TYPE_CHECKING:
    from skuld_async.durable.records import Append

    from .rows import Row
    from .writer import Desk

ADD_CHUNK = "INSERT INTO chunks (run, number, data) VALUES (?, ?, ?)"
LEASE = """
    SELECT key, owner, token, appends, last_worker, last_token, status, inbox, events, recoveries
    FROM runs WHERE id = ?
"""


def append(desk: Desk, item: Append) -> None:
    """See `Store.append`."""
    row: Row | None = desk.execute(LEASE, (item.run,)).fetchone()
    if row is None:
        raise LeaseLostError(item.run, item.worker, item.token)
    key, owner, token, appends, last_worker, last_token, *_ = row
    if (last_worker, last_token, appends) == (item.worker, item.token, item.number):
        return
    if (owner, token, appends + 1) != (item.worker, item.token, item.number):
        raise LeaseLostError(item.run, item.worker, item.token)
    for closing in item.closes:
        if not closing.answered:
            _check_unanswered(desk, item.run, closing.wait)
    desk.remember(item.run, key)
    _write_record(desk, item, row)
    _write_log(desk, item, key)
    _write_waits(desk, item)


def _check_unanswered(desk: Desk, run: str, wait: str) -> None:
    found: Row | None = desk.execute("SELECT state FROM waits WHERE run = ? AND id = ?", (run, wait)).fetchone()
    if found == ("answered",):
        raise WaitTakenError(run, wait)


def _write_record(desk: Desk, item: Append, row: Row) -> None:
    key, _owner, _token, _appends, _worker, _last, status, inbox, events, recoveries = row
    if item.events:
        events = max(events, *(event.offset for event in item.events))
    advanced = (item.number, item.worker, item.token, events, 0 if item.progress else recoveries)
    # What an index has is written only where it changes.
    changes = "appends = ?, last_worker = ?, last_token = ?, events = ?, recoveries = ?"
    values: Row = advanced
    has_mail = inbox > item.seen
    after = "running" if item.status == "suspended" and has_mail else item.status or status
    if item.status is not None:
        changes += ", result = ?, error = ?, attention = ?"
        values += (item.result, item.error, item.attention)
        if after != status:
            changes += ", status = ?, updated = ?"
            values += (after, item.at)
    if item.release:
        changes += ", owner = NULL, wake = ?"
        values += (0.0 if has_mail and after in {"running", "suspended"} else item.wake,)
    desk.execute(f"UPDATE runs SET {changes} WHERE key = ?", (*values, key))  # noqa: S608 - of the words above
    if item.release or item.events or after != status:
        desk.changed.add(item.run)


def _write_log(desk: Desk, item: Append, key: int) -> None:
    execute = desk.execute
    if item.replace:
        execute("DELETE FROM chunks WHERE run = ?", (key,))
        if item.forget:
            old = (item.forget,)
            execute("DELETE FROM messages WHERE run = ? AND fate IS NOT NULL AND at < ?", (key, *old))
            execute("DELETE FROM waits WHERE run = ? AND state = 'closed' AND opened < ?", (item.run, *old))
    if item.chunk is not None:
        execute(ADD_CHUNK, (key, item.number, item.chunk))
    for folded in item.folded:
        execute("UPDATE messages SET fate = ? WHERE run = ? AND number = ?", (folded.refused, key, folded.number))
    for event in item.events:
        execute(
            "INSERT INTO events (run, number, at, data) VALUES (?, ?, ?, ?)", (key, event.offset, event.at, event.data)
        )
    if item.trim:
        execute("DELETE FROM events WHERE run = ? AND number <= ?", (key, item.trim))


def _write_waits(desk: Desk, item: Append) -> None:
    has_ended = item.status in ENDED
    closed = [one.wait for one in item.closes]
    if has_ended:
        closed = [row[0] for row in desk.execute(NOT_CLOSED, (item.run,)).fetchall()]
    for closing in closed:
        close_wait(desk, item.run, closing)
    for wait in item.opens:
        put_wait(desk, replace(wait, state="closed") if has_ended else wait)
