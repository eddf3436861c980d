"""Logs that are read: runs that are resumed together are loaded together."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from .rows import MESSAGE, message

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async.durable.records import Message

    from .driver import Connection
    from .schema import Schema

Loaded: TypeAlias = "tuple[Sequence[bytes], Sequence[Message]]"

_CHUNKS = "SELECT data, run FROM SCHEMA.chunks WHERE run = ANY($1::text[]) ORDER BY run, number"
_MESSAGES = f"""
    SELECT {MESSAGE}, run FROM SCHEMA.messages WHERE run = ANY($1::text[]) AND fate IS NULL ORDER BY run, number
"""


class LoadKind:
    """How logs are loaded, with the messages that are not folded in."""

    def __init__(self, schema: Schema) -> None:
        self._chunks = schema.sql(_CHUNKS)
        self._messages = schema.sql(_MESSAGES)

    def run_of(self, item: str) -> str:
        """See `Kind.run_of`."""
        return item

    async def write(self, connection: Connection, items: Sequence[str]) -> Sequence[Loaded]:
        """See `Kind.write`."""
        loaded: dict[str, tuple[list[bytes], list[Message]]] = {run: ([], []) for run in items}
        for row in await connection.fetch(self._chunks, [*loaded]):
            loaded[row[1]][0].append(row[0])
        for row in await connection.fetch(self._messages, [*loaded]):
            loaded[row["run"]][1].append(message(row))
        return [loaded[run] for run in items]
