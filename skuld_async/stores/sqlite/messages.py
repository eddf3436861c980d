"""Messages to runs: answers, deposits, cancels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.durable.records import ENDED, Message

from .runs import requeue
from .waits import hide_wait

if TYPE_CHECKING:
    from skuld_async.durable.records import NewAnswer, NewDeposit
    from skuld_async.durable.store import Answered

    from .rows import Row
    from .writer import Desk

RUN_OF = "SELECT key, status, inbox FROM runs WHERE id = ?"
RECEIVE = """
    UPDATE runs SET inbox = ?, updated = CASE WHEN status = 'suspended' THEN ? ELSE updated END,
    wake = CASE WHEN owner IS NULL AND status IN ('suspended', 'running') THEN 0 ELSE wake END,
    status = CASE WHEN status = 'suspended' THEN 'running' ELSE status END WHERE key = ?
"""


def answer(desk: Desk, item: NewAnswer) -> Answered:
    """See `Store.answer`."""
    row: Row | None = desk.execute(
        "SELECT digest, state, answer FROM waits WHERE run = ? AND id = ?", (item.run, item.wait)
    ).fetchone()
    if row is None or row[0] != item.digest:
        return "unknown"
    _, state, given = row
    if given is not None:
        return "repeated" if given == item.body else "conflict"
    if state == "closed":
        return "closed"
    hide_wait(desk, item.run, item.wait)
    desk.execute(
        "UPDATE waits SET state = 'answered', answer = ?, answered_by = ?, answered = ? WHERE run = ? AND id = ?",
        (item.body, item.by, item.at, item.run, item.wait),
    )
    _send(desk, item.run, Message(0, "answer", item.wait, "", item.body, item.by, item.at))
    return "accepted"


def deposit(desk: Desk, item: NewDeposit) -> int | None:
    """See `Store.deposit`."""
    run: Row | None = desk.execute(RUN_OF, (item.run,)).fetchone()
    if run is None or run[1] in ENDED:
        return None
    same: Row | None = desk.execute(
        "SELECT number FROM messages WHERE run = ? AND kind = 'deposit' AND wait = ? AND name = ? AND body = ? "
        "AND sender = ? AND at = ?",
        (run[0], item.wait, item.name, item.body, item.by, item.at),
    ).fetchone()
    if same is not None:
        number: int = same[0]
        return number
    return _send(desk, item.run, Message(0, "deposit", item.wait, item.name, item.body, item.by, item.at))


def cancel(desk: Desk, item: tuple[str, str, str, float]) -> bool:
    """See `Store.cancel`."""
    run, reason, by, at = item
    row: Row | None = desk.execute(RUN_OF, (run,)).fetchone()
    if row is None or row[1] in ENDED:
        return False
    asked = desk.execute("SELECT 1 FROM messages WHERE run = ? AND kind = 'cancel'", (row[0],)).fetchone()
    if asked is None:
        _send(desk, run, Message(0, "cancel", "", "", reason.encode(), by, at))
        requeue(desk, (run, at))
    return True


def _send(desk: Desk, run: str, message: Message) -> int:
    """Send a message, which gets its number here."""
    key, _, inbox = desk.execute(RUN_OF, (run,)).fetchone()
    number: int = inbox + 1
    desk.execute(RECEIVE, (number, message.at, key))
    desk.execute(
        "INSERT INTO messages (run, number, kind, wait, name, body, sender, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (key, number, message.kind, message.wait, message.name, message.body, message.by, message.at),
    )
    desk.changed.add(run)
    return number
