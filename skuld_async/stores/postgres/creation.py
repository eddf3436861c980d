"""New runs."""

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from skuld_async.durable.records import NewRun, RunRecord

from .batches import execute
from .rows import RUN, run_record
from .schema import notify

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .driver import Connection
    from .schema import Schema

_CREATE = f"""
    WITH new AS (
        INSERT INTO SCHEMA.runs
            (id, workflow, version, arguments, tags, status, created, updated, wake, owner, token, appends)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, 1)
        ON CONFLICT (id) DO NOTHING
        RETURNING id, owner
    ),
    chunk AS (INSERT INTO SCHEMA.chunks SELECT id, 1, $11 FROM new)
    SELECT $12::bigint, (SELECT {notify("id")} FROM new WHERE owner IS NULL) FROM new
"""
_EXISTING = f"SELECT {RUN} FROM SCHEMA.runs WHERE id = ANY($1::text[])"


class Creation(NamedTuple):
    """A run, and who has it from the start."""

    run: NewRun
    worker: str | None

    def record(self) -> RunRecord:
        """The run as it is kept."""
        run = self.run
        is_owned = self.worker is not None and not run.paused
        return RunRecord(
            run.id,
            run.workflow,
            run.version,
            run.arguments,
            run.tags,
            "paused" if run.paused else "running",
            run.at,
            run.at,
            wake=None if is_owned or run.paused else 0.0,
            owner=self.worker if is_owned else None,
            token=int(is_owned),
            appends=1,
        )


class CreationKind:
    """How runs are created; those that there are already are given back, None for one that is deleted meanwhile."""

    def __init__(self, schema: Schema) -> None:
        self._sql = schema.sql(_CREATE)
        self._existing = schema.sql(_EXISTING)

    def run_of(self, item: Creation) -> str:
        """See `Kind.run_of`."""
        return item.run.id

    async def write(self, connection: Connection, items: Sequence[Creation]) -> Sequence[RunRecord | None]:
        """See `Kind.write`."""
        rows = await execute(connection, self._sql, [_values(item, at) for at, item in enumerate(items)])
        old = [item.run.id for at, item in enumerate(items) if at not in rows]
        found = await connection.fetch(self._existing, old) if old else ()
        existing = {record.id: record for record in map(run_record, found)}
        return [item.record() if at in rows else existing.get(item.run.id) for at, item in enumerate(items)]


def _values(item: Creation, position: int) -> Sequence[object]:
    it = item.record()
    place = (it.status, it.created, it.wake, it.owner, it.token, item.run.chunk, position)
    return (it.id, it.workflow, it.version, it.arguments, it.tags, *place)
