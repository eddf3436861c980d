"""Appends: which statement writes one, and what its result means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.durable.errors import LeaseLostError, WaitTakenError

from .append_sql import PLAIN, PLAIN_MANY, AppendStatement, Shape, shape_of
from .batches import execute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async.durable.records import Append

    from .driver import Connection, Row
    from .schema import Schema

_MANY = 20  # from then on a join with the arrays is cheaper than to look up each run
_WRITTEN = """
    SELECT i.position - 1
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WITH ORDINALITY
        AS i (run, worker, token, number, position)
    JOIN SCHEMA.runs r
        ON r.id = i.run AND r.written_by = i.worker AND r.written_token = i.token AND r.appends = i.number
"""


class Appends:
    """The kinds of appends to the runs of one schema."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._kinds: dict[Shape, AppendKind] = {}

    def kind_of(self, item: Append) -> AppendKind:
        """What writes *item*."""
        shape = shape_of(item)
        kind = self._kinds.get(shape)
        if kind is None:
            kind = self._kinds[shape] = AppendKind(self._schema, shape)
        return kind


class AppendKind:
    """Appends of one shape."""

    def __init__(self, schema: Schema, shape: Shape) -> None:
        statement = AppendStatement(shape)
        self._schema = schema
        self._extra = tuple(statement.extra)
        self._sql = schema.sql(statement.text)
        self._is_plain = shape == PLAIN

    def run_of(self, item: Append) -> str:
        """See `Kind.run_of`."""
        return item.run

    async def write(self, connection: Connection, items: Sequence[Append]) -> Sequence[Exception | None]:
        """See `Kind.write`."""
        if self._is_plain and len(items) >= _MANY:
            rows = await self._write_many(connection, items)
        else:
            rows = await execute(connection, self._sql, [self._values(item, at) for at, item in enumerate(items)])
        if len(rows) == len(items) and (self._is_plain or all(row["done"] for row in rows.values())):
            return [None] * len(items)
        return await self._explain(connection, items, rows)

    def _values(self, item: Append, position: int) -> Sequence[object]:
        extra = [value(item) for value in self._extra]
        return (item.run, item.worker, item.token, item.number, item.progress, position, *extra)

    async def _write_many(self, connection: Connection, items: Sequence[Append]) -> dict[int, Row]:
        """Write all of them with one execution of one statement."""
        found = await connection.fetch(
            self._schema.sql(PLAIN_MANY),
            [item.run for item in items],
            [item.worker for item in items],
            [item.token for item in items],
            [item.number for item in items],
            [item.progress for item in items],
            [item.chunk for item in items],
        )
        return {row[0]: row for row in found}

    async def _explain(
        self, connection: Connection, items: Sequence[Append], rows: dict[int, Row]
    ) -> Sequence[Exception | None]:
        """Why some of them were not written."""
        results: list[Exception | None] = [None] * len(items)
        missed = [at for at in range(len(items)) if at not in rows or not rows[at]["done"]]
        for at in set(missed) - await self._written(connection, items, missed):
            item, row = items[at], rows.get(at)
            taken = None if row is None else row.get("taken")
            if taken is None:
                results[at] = LeaseLostError(item.run, item.worker, item.token)
            else:
                results[at] = WaitTakenError(item.run, taken)
        return results

    async def _written(self, connection: Connection, items: Sequence[Append], missed: Sequence[int]) -> set[int]:
        """Which of those that found another number were written before."""
        again = [items[at] for at in missed]
        found = await connection.fetch(
            self._schema.sql(_WRITTEN),
            [item.run for item in again],
            [item.worker for item in again],
            [item.token for item in again],
            [item.number for item in again],
        )
        return {missed[row[0]] for row in found}
