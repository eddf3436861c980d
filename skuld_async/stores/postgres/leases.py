"""Leases: who has which run, what is due, and what is removed."""

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Literal

from skuld_async.durable.records import ENDED, RunRecord

from .messages import REQUEUE, REQUEUED
from .rows import RUN, run_record
from .schema import notify

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from .driver import Connection
    from .schema import Schema

# The workflows that have something to do, found by jumping from one to the next in the index.
_OTHERS = """
    RECURSIVE ready (workflow) AS (
        (
            SELECT workflow FROM SCHEMA.runs WHERE owner IS NULL AND wake IS NOT NULL
            ORDER BY workflow LIMIT 1
        )
        UNION ALL
        SELECT (
            SELECT r.workflow FROM SCHEMA.runs r
            WHERE r.owner IS NULL AND r.wake IS NOT NULL AND r.workflow > ready.workflow
            ORDER BY r.workflow LIMIT 1
        ) FROM ready WHERE ready.workflow IS NOT NULL
    ),
    wanted AS (SELECT workflow FROM ready WHERE workflow <> ALL($4::text[])),"""
_THESE = 'wanted AS (SELECT DISTINCT unnest($4::text[]) COLLATE "C" AS workflow),'

# The first ones of each workflow are looked up in the index, and the first ones of these are locked. More are looked up
# than are wanted, because others may be about to take them too.
_CLAIM = """
    WITH {wanted}
    first AS (
        SELECT found.id FROM wanted CROSS JOIN LATERAL (
            SELECT id FROM SCHEMA.runs r
            WHERE r.workflow = wanted.workflow AND owner IS NULL AND wake <= $2
            ORDER BY wake, id LIMIT 4 * $3::bigint
        ) found
    ),
    due AS MATERIALIZED (
        SELECT r.id, r.status, r.wake, 0 AS recoveries, 0 AS place FROM SCHEMA.runs r
        WHERE r.id = ANY(ARRAY(SELECT id FROM first)) AND r.owner IS NULL AND r.wake <= $2
        ORDER BY r.wake, r.id LIMIT $3::bigint
        FOR UPDATE SKIP LOCKED
    ),
    orphaned AS MATERIALIZED (
        SELECT r.id, r.status, NULL::double precision AS wake, 1 AS recoveries,
            array_position($5::text[], r.owner) AS place
        FROM SCHEMA.runs r WHERE r.owner = ANY($5::text[]) AND r.workflow {among}
        ORDER BY array_position($5::text[], r.owner), r.id LIMIT $3::bigint - (SELECT count(*) FROM due)
        FOR UPDATE SKIP LOCKED
    ),
    taken AS (SELECT * FROM due UNION ALL SELECT * FROM orphaned),
    claimed AS (
        UPDATE SCHEMA.runs r SET
            status = 'running', updated = CASE WHEN taken.status = 'running' THEN updated ELSE $2 END,
            wake = NULL, owner = $1, token = token + 1, recoveries = r.recoveries + taken.recoveries, claim = $6
        FROM taken WHERE r.id = taken.id
        RETURNING {columns}, taken.place, taken.wake AS due, taken.status AS before
    )
    SELECT {run}, CASE WHEN before <> 'running' THEN {notify} IS NULL END FROM claimed ORDER BY place, due, id
"""
_COLUMNS = ", ".join(f"r.{name}" for name in RunRecord.__struct_fields__)
CLAIM_THESE = _CLAIM.format(wanted=_THESE, among="= ANY($4::text[])", columns=_COLUMNS, run=RUN, notify=notify("id"))
CLAIM_OTHERS = _CLAIM.format(wanted=_OTHERS, among="<> ALL($4::text[])", columns=_COLUMNS, run=RUN, notify=notify("id"))
_CLAIMED = f"SELECT {RUN} FROM SCHEMA.runs WHERE owner = $1 AND claim = $2 ORDER BY id"
NEXT_WAKE = """
    SELECT min(found.wake) FROM unnest($1::text[]) AS wanted (workflow) CROSS JOIN LATERAL (
        SELECT r.wake FROM SCHEMA.runs r
        WHERE r.workflow = wanted.workflow AND r.owner IS NULL AND r.wake IS NOT NULL
        ORDER BY r.wake LIMIT 1
    ) found
"""
MAIL = """
    SELECT r.id, r.inbox FROM SCHEMA.runs r
    WHERE r.owner = $1 AND r.inbox > 0
        AND EXISTS (SELECT FROM SCHEMA.messages m WHERE m.run = r.id AND m.fate IS NULL)
"""
REQUEUE_KNOWN = f"""
    WITH known AS MATERIALIZED (
        SELECT id FROM SCHEMA.runs
        WHERE attention = $1 AND workflow = ANY($3::text[]) AND status = 'needs_attention'
        ORDER BY id FOR UPDATE
    ),
    again AS (UPDATE SCHEMA.runs r SET {REQUEUED} FROM known WHERE r.id = known.id RETURNING r.id)
    SELECT count({notify("id")}) FROM again
"""
_OWNER = "SELECT owner FROM SCHEMA.runs WHERE id = $1 FOR UPDATE"
EXPIRED = f"""
    SELECT id FROM SCHEMA.runs
    WHERE status IN ('{"', '".join(ENDED)}') AND updated < $1
    ORDER BY updated LIMIT $2 FOR UPDATE SKIP LOCKED
"""
# Done once their rows are locked: nobody can add to them any more.
_DELETE = """
    WITH chunks AS (DELETE FROM SCHEMA.chunks WHERE run = ANY($1::text[])),
    waits AS (DELETE FROM SCHEMA.waits WHERE run = ANY($1::text[])),
    messages AS (DELETE FROM SCHEMA.messages WHERE run = ANY($1::text[])),
    events AS (DELETE FROM SCHEMA.events WHERE run = ANY($1::text[]))
    DELETE FROM SCHEMA.runs WHERE id = ANY($1::text[])
"""


class Leases:
    """What is done with the rows of runs, other than appends."""

    def __init__(self, schema: Schema) -> None:
        self._sql = schema.sql

    def claim(
        self, worker: str, now: float, limit: int, workflows: Collection[str], dead: Collection[str], *, unknown: bool
    ) -> Callable[[Connection], Awaitable[Sequence[RunRecord]]]:
        """See `Store.claim`. Where it is done again, because the connection was lost, it gives what it took before."""
        name = token_hex(8)
        statement = self._sql(CLAIM_OTHERS if unknown else CLAIM_THESE)
        is_repeated = False

        async def claim(connection: Connection) -> Sequence[RunRecord]:
            nonlocal is_repeated
            rows = await connection.fetch(self._sql(_CLAIMED), worker, name) if is_repeated else ()
            is_repeated = True
            if not rows:
                rows = await connection.fetch(statement, worker, now, limit, [*workflows], [*dead], name)
            return [run_record(row) for row in rows]

        return claim

    async def next_wake(self, connection: Connection, workflows: Collection[str]) -> float | None:
        """See `Store.next_wake`."""
        wake: float | None = await connection.fetchval(self._sql(NEXT_WAKE), [*workflows])
        return wake

    async def mail(self, connection: Connection, worker: str) -> Sequence[tuple[str, int]]:
        """See `Store.mail`."""
        return [(row[0], row[1]) for row in await connection.fetch(self._sql(MAIL), worker)]

    async def requeue(self, connection: Connection, run: str, now: float) -> bool:
        """See `Store.requeue`."""
        return await connection.fetchrow(self._sql(REQUEUE), run, now) is not None

    async def requeue_known(
        self, connection: Connection, attention: str, workflows: Collection[str], now: float
    ) -> int:
        """See `Store.requeue_known`."""
        number: int = await connection.fetchval(self._sql(REQUEUE_KNOWN), attention, now, [*workflows])
        return number

    async def delete(self, connection: Connection, run: str) -> Literal["deleted", "owned", "unknown"]:
        """See `Store.delete`."""
        async with connection.transaction():
            row = await connection.fetchrow(self._sql(_OWNER), run)
            if row is None:
                return "unknown"
            if row[0] is not None:
                return "owned"
            await connection.execute(self._sql(_DELETE), [run])
            return "deleted"

    async def expire(self, connection: Connection, before: float, limit: int) -> int:
        """See `Store.expire`."""
        async with connection.transaction():
            expired = [row[0] for row in await connection.fetch(self._sql(EXPIRED), before, limit)]
            if expired:
                await connection.execute(self._sql(_DELETE), expired)
            return len(expired)
