"""Leases: runs that are due, or whose worker is dead, find a worker; and workers are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec.structs import replace

from skuld_async.durable.records import WorkerRecord

from .rows import RUN, marks, run_of, unpacked

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from skuld_async.durable.records import RunRecord

    from .rows import Row
    from .writer import Desk

Claim: TypeAlias = "tuple[str, float, int, Collection[str], Collection[str], bool]"
"""Worker, now, limit, workflows, dead, unknown: as in `Store.claim`."""

TAKE = """
    UPDATE runs SET owner = ?, token = token + 1, wake = NULL, recoveries = recoveries + ?,
    updated = CASE WHEN status = 'running' THEN updated ELSE ? END, status = 'running' WHERE key = ?
"""


def due_query(workflows: Collection[str], *, unknown: bool) -> str:
    """Runs that are due at the first parameter, of the next ones, as many as the last one says: by the index alone."""
    return (
        f"SELECT {RUN}, r.key FROM runs r INDEXED BY runs_due CROSS JOIN arguments a ON a.run = r.key "  # noqa: S608
        f"WHERE r.owner IS NULL AND r.wake <= ? AND r.workflow {_among(workflows, unknown=unknown)} "
        "ORDER BY r.wake, r.key LIMIT ?"
    )


def owned_query(workers: Collection[str], workflows: Collection[str], *, unknown: bool) -> str:
    """Runs of the first parameters, and of the next ones, as many as the last one says."""
    return (
        f"SELECT {RUN}, r.key FROM runs r INDEXED BY runs_owned CROSS JOIN arguments a ON a.run = r.key "  # noqa: S608
        f"WHERE r.owner IN ({marks(workers)}) AND r.workflow {_among(workflows, unknown=unknown)} LIMIT ?"
    )


def wake_query(workflows: Collection[str]) -> str:
    """When the next run of these workflows is due."""
    return (
        "SELECT wake FROM runs INDEXED BY runs_due WHERE owner IS NULL AND wake IS NOT NULL "  # noqa: S608
        f"AND workflow {_among(workflows, unknown=False)} ORDER BY wake LIMIT 1"
    )


def _among(workflows: Collection[str], *, unknown: bool) -> str:
    return f"{'NOT ' if unknown else ''}IN ({marks(workflows)})"


def claim(desk: Desk, item: Claim) -> Sequence[RunRecord]:
    """See `Store.claim`."""
    if not (item[3] or item[5]):
        return []
    worker, now, limit, workflows, dead, unknown = item
    taken: list[RunRecord] = []

    def take(rows: list[Row], recoveries: int) -> None:
        desk.cursor.executemany(TAKE, [(worker, recoveries, now, row[-1]) for row in rows])
        for row in rows:
            record = run_of(row[:-1])
            updated = record.updated if record.status == "running" else now
            desk.remember(record.id, row[-1])
            if record.status != "running":
                desk.changed.add(record.id)
            taken.append(
                replace(
                    record,
                    status="running",
                    updated=updated,
                    wake=None,
                    owner=worker,
                    token=record.token + 1,
                    recoveries=record.recoveries + recoveries,
                )
            )

    due = due_query(workflows, unknown=unknown)
    take(desk.execute(due, (now, *workflows, limit)).fetchall(), 0)
    if dead and len(taken) < limit:
        owned = owned_query(dead, workflows, unknown=unknown)
        take(desk.execute(owned, (*dead, *workflows, limit - len(taken))).fetchall(), 1)
    return taken


def next_wake(connection: sqlite3.Connection, workflows: Collection[str]) -> float | None:
    """See `Store.next_wake`."""
    if not workflows:
        return None
    row: Row | None = connection.execute(wake_query(workflows), (*workflows,)).fetchone()
    return None if row is None else row[0]


def list_workers(connection: sqlite3.Connection, _item: None) -> Sequence[WorkerRecord]:
    """See `Store.workers`."""
    rows: list[Row] = connection.execute("SELECT id, host, pid, born, workflows, beat FROM workers").fetchall()
    known = [
        WorkerRecord(worker, host, pid, born, unpacked(workflows), beat)
        for worker, host, pid, born, workflows, beat in rows
    ]
    owners: list[Row] = connection.execute(
        "SELECT DISTINCT owner FROM runs WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM workers)"
    ).fetchall()
    return [*known, *(WorkerRecord(owner, "", 0, "", ()) for (owner,) in owners)]


def bury(desk: Desk, workers: Collection[str]) -> None:
    """See `Store.bury`."""
    desk.cursor.executemany(
        "DELETE FROM workers WHERE id = ? AND NOT EXISTS (SELECT 1 FROM runs WHERE owner = workers.id)",
        [(worker,) for worker in workers],
    )
