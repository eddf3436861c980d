"""Rows and records: the columns of each table in the order of its record's fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from skuld_async.durable.records import RunRecord, WaitRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Row: TypeAlias = tuple[Any, ...]

RUN = (
    "r.id, r.workflow, r.version, a.data, r.tags, r.status, r.created, r.updated, r.wake, r.owner, r.token, r.appends, "
    "r.inbox, r.events, r.recoveries, r.result, r.error, r.attention"
)
"""Columns of a `RunRecord`, of runs as r and arguments as a."""

WAIT = (
    "w.run, w.id, w.digest, w.sig, w.question, w.schema, w.opened, w.workflow, w.tags, w.name, w.assignee, w.deadline, "
    "w.state, w.answer, w.answered_by, w.answered"
)
"""Columns of a `WaitRecord`, of waits as w."""


def packed(words: Sequence[str]) -> str:
    """Tags, or names, in a column."""
    return msgspec.json.encode(words).decode() if words else "[]"


def unpacked(column: str) -> tuple[str, ...]:
    """The same, back from it."""
    return () if column == "[]" else msgspec.json.decode(column, type=tuple[str, ...])


def run_of(row: Row) -> RunRecord:
    """The record of a row of `RUN`."""
    values = [*row]
    values[4] = unpacked(values[4])
    return RunRecord(*values)


def wait_of(row: Row) -> WaitRecord:
    """The record of a row of `WAIT`."""
    values = [*row]
    values[8] = unpacked(values[8])
    return WaitRecord(*values)


def marks(values: Collection[object]) -> str:
    """As many parameters as there are *values*."""
    return ", ".join("?" * len(values))
