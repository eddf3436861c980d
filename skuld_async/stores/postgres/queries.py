"""What is read: lists of runs and of open questions, with only the conditions that were given.

Each statement has an index that holds its order, so that it reads no more than it gives where the filter is common.
"""

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

from __future__ import annotations

from typing import TYPE_CHECKING

from .rows import EVENT, MESSAGE, RUN, WAIT, WORKER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async.durable.records import RunFilter, WaitFilter

RUN_OF_ID = f"SELECT {RUN} FROM SCHEMA.runs WHERE id = $1"
NEW_MESSAGES = f"SELECT {MESSAGE} FROM SCHEMA.messages WHERE run = $1 AND fate IS NULL ORDER BY number"
MESSAGES = f"SELECT {MESSAGE}, fate FROM SCHEMA.messages WHERE run = $1 ORDER BY number"
WAIT_OF_ID = f"SELECT {WAIT} FROM SCHEMA.waits WHERE run = $1 AND id = $2"
EVENTS = f"SELECT {EVENT} FROM SCHEMA.events WHERE run = $1 AND number > $2 ORDER BY number LIMIT $3"
# The owners are found by jumping from one to the next in the index.
WORKERS = f"""
    WITH RECURSIVE owners (id) AS (
        (SELECT owner FROM SCHEMA.runs WHERE owner IS NOT NULL ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT r.owner FROM SCHEMA.runs r WHERE r.owner > owners.id ORDER BY r.owner LIMIT 1)
        FROM owners WHERE owners.id IS NOT NULL
    )
    SELECT {WORKER} FROM SCHEMA.workers
    UNION ALL
    SELECT id, '', 0, '', '{{}}', 0 FROM owners WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM SCHEMA.workers)
    ORDER BY id
"""
BURY = """
    DELETE FROM SCHEMA.workers w
    WHERE w.id = ANY($1::text[]) AND NOT EXISTS (SELECT FROM SCHEMA.runs r WHERE r.owner = w.id)
"""


class _Conditions:
    """Conditions and the values in them."""

    def __init__(self, *fixed: str) -> None:
        self._all = [*fixed]
        self.values: list[object] = []

    def add(self, condition: str, *values: object) -> None:
        """Add a condition: each ``?`` in it stands for the next one of *values*."""
        for value in values:
            self.values.append(value)
            condition = condition.replace("?", f"${len(self.values)}", 1)
        self._all.append(condition)

    def text(self) -> str:
        return " AND ".join(self._all) or "true"


def listed_runs(only: RunFilter, after: tuple[float, str] | None, limit: int) -> tuple[str, Sequence[object]]:
    """The statement for `Store.runs`, and its values."""
    where = _Conditions()
    if only.workflow is not None:
        where.add("workflow = ?", only.workflow)
    if only.statuses is not None and len(only.statuses) == 1:
        where.add("status = ?", *only.statuses)  # for which the index holds the order, too
    elif only.statuses is not None:
        where.add("status = ANY(?::text[])", only.statuses)
    if only.tag is not None:
        where.add("tags @> ARRAY[?::text] AND tags <> '{}'", only.tag)
    if after is not None:
        where.add("(created, id) < (?, ?)", *after)
    statement = f"SELECT {RUN} FROM SCHEMA.runs WHERE {where.text()} ORDER BY created DESC, id DESC"
    return f"{statement} LIMIT ${len(where.values) + 1}", (*where.values, limit)


def open_waits(only: WaitFilter, after: tuple[float, str, str] | None, limit: int) -> tuple[str, Sequence[object]]:
    """The statement for `Store.waits`, and its values."""
    where = _Conditions("state = 'open'")
    for column in ("run", "workflow", "assignee", "name"):
        value = getattr(only, column)
        if value is not None:
            where.add(f"{column} = ?", value)
    if only.tag is not None:
        where.add("tags @> ARRAY[?::text] AND tags <> '{}'", only.tag)
    if only.opened_before is not None:
        where.add("opened < ?", only.opened_before)
    if after is not None:
        where.add("(opened, run, id) > (?, ?, ?)", *after)
    statement = f"SELECT {WAIT} FROM SCHEMA.waits WHERE {where.text()} ORDER BY opened, run, id"
    return f"{statement} LIMIT ${len(where.values) + 1}", (*where.values, limit)
