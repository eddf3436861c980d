"""What is sent to runs: answers in batches, deposits and cancels one by one.

Whoever sends locks the row of the run first, which also gives the message its number.
"""

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.durable.records import ENDED, PARKED, Message

from .schema import notify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async.durable.records import NewAnswer, NewDeposit
    from skuld_async.durable.store import Answered

    from .driver import Connection, Row
    from .schema import Schema

_RECEIVE = """inbox = inbox + 1,
            status = CASE WHEN status = 'suspended' THEN 'running' ELSE status END,
            updated = CASE WHEN status = 'suspended' THEN {at} ELSE updated END,
            wake = CASE WHEN owner IS NULL AND status IN ('running', 'suspended') THEN 0 ELSE wake END"""
_ANSWER = f"""
    WITH item AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::double precision[])
            WITH ORDINALITY AS i (run, wait, digest, body, by, at, position)
    ),
    run AS MATERIALIZED (SELECT id FROM SCHEMA.runs WHERE id = ANY($1::text[]) ORDER BY id FOR UPDATE),
    asked AS MATERIALIZED (
        SELECT i.*, w.digest = i.digest AS is_bound, w.state, w.answer = i.body AS is_same
        FROM item i JOIN run ON run.id = i.run JOIN SCHEMA.waits w ON w.run = i.run AND w.id = i.wait
        FOR UPDATE OF w
    ),
    answered AS (
        UPDATE SCHEMA.waits w SET state = 'answered', answer = i.body, answered_by = i.by, answered = i.at
        FROM asked i WHERE w.run = i.run AND w.id = i.wait AND i.state = 'open' AND i.is_bound
        RETURNING i.*
    ),
    sent AS (
        UPDATE SCHEMA.runs r SET {_RECEIVE.format(at="i.at")}
        FROM answered i WHERE r.id = i.run
        RETURNING r.id, r.inbox, i.wait, i.body, i.by, i.at
    ),
    message AS (
        INSERT INTO SCHEMA.messages (run, number, kind, wait, name, body, by, at)
        SELECT id, inbox, 'answer', wait, '', body, by, at FROM sent
    )
    SELECT position - 1 AS position, is_bound, state, is_same, (SELECT count({notify("id")}) FROM sent) FROM asked
"""
_LOCK = "SELECT status FROM SCHEMA.runs WHERE id = $1 FOR UPDATE"
_SENT = """
    SELECT number FROM SCHEMA.messages
    WHERE run = $1 AND kind = $2 AND wait = $3 AND name = $4 AND body = $5 AND by = $6 AND at = $7
    ORDER BY number LIMIT 1
"""
_CANCELLED = "SELECT EXISTS (SELECT FROM SCHEMA.messages WHERE run = $1 AND kind = 'cancel')"
_SEND = f"""
    WITH sent AS (
        UPDATE SCHEMA.runs SET {_RECEIVE.format(at="$7")} WHERE id = $1 RETURNING id, inbox
    )
    INSERT INTO SCHEMA.messages (run, number, kind, wait, name, body, by, at)
    SELECT id, inbox, $2, $3, $4, $5, $6, $7 FROM sent
    RETURNING number, (SELECT {notify("id")} FROM sent)
"""
REQUEUED = "status = 'running', updated = $2, wake = 0, recoveries = 0, error = NULL, attention = NULL"
"""What changes in a parked run that is to be taken again, at ``$2``."""
REQUEUE = f"""
    WITH again AS (
        UPDATE SCHEMA.runs SET {REQUEUED}
        WHERE id = $1 AND status = ANY('{{{",".join(PARKED)}}}') RETURNING id
    )
    SELECT {notify("id")} IS NULL FROM again
"""


class AnswerKind:
    """How questions are answered."""

    def __init__(self, schema: Schema) -> None:
        self._sql = schema.sql(_ANSWER)

    def run_of(self, item: NewAnswer) -> str:
        """See `Kind.run_of`."""
        return item.run

    async def write(self, connection: Connection, items: Sequence[NewAnswer]) -> Sequence[Answered]:
        """See `Kind.write`."""
        became: dict[int, Answered] = {}
        left = dict(enumerate(items))
        while left:
            # One for each run at a time: the statement changes a row once.
            places = {item.run: place for place, item in reversed(left.items())}.values()
            batch = [(place, left.pop(place)) for place in sorted(places)]
            rows = await self._answer(connection, [item for _, item in batch])
            became |= {place: _became(rows.get(at)) for at, (place, _) in enumerate(batch)}
        return [became[place] for place in range(len(items))]

    async def _answer(self, connection: Connection, items: Sequence[NewAnswer]) -> dict[int, Row]:
        found = await connection.fetch(
            self._sql,
            [item.run for item in items],
            [item.wait for item in items],
            [item.digest for item in items],
            [item.body for item in items],
            [item.by for item in items],
            [item.at for item in items],
        )
        return {row["position"]: row for row in found}


def _became(row: Row | None) -> Answered:
    if row is None or not row["is_bound"]:
        return "unknown"
    if row["is_same"] is not None:
        return "repeated" if row["is_same"] else "conflict"
    return "accepted" if row["state"] == "open" else "closed"


class Messages:
    """Sends messages that are not answers."""

    def __init__(self, schema: Schema) -> None:
        self._sql = schema.sql

    async def deposit(self, connection: Connection, item: NewDeposit) -> int | None:
        """See `Store.deposit`."""
        sent = Message(0, "deposit", item.wait, item.name, item.body, item.by, item.at)
        async with connection.transaction():
            if await connection.fetchval(self._sql(_LOCK), item.run) in {None, *ENDED}:
                return None
            number: int | None = await connection.fetchval(self._sql(_SENT), item.run, *_values(sent))
            return await self._send(connection, item.run, sent) if number is None else number

    async def cancel(self, connection: Connection, run: str, reason: str, by: str, at: float) -> bool:
        """See `Store.cancel`."""
        async with connection.transaction():
            if await connection.fetchval(self._sql(_LOCK), run) in {None, *ENDED}:
                return False
            if not await connection.fetchval(self._sql(_CANCELLED), run):
                await self._send(connection, run, Message(0, "cancel", "", "", reason.encode(), by, at))
                await connection.execute(self._sql(REQUEUE), run, at)
            return True

    async def _send(self, connection: Connection, run: str, message: Message) -> int:
        number: int = await connection.fetchval(self._sql(_SEND), run, *_values(message))
        return number


def _values(message: Message) -> Sequence[object]:
    return (message.kind, message.wait, message.name, message.body, message.by, message.at)
