"""The heart of a worker, on a SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import explained
from .rows import packed
from .schema import connect

if TYPE_CHECKING:
    from skuld_async.durable.records import WorkerRecord


class SQLiteHeart:
    """See `Heart`: it has a connection, which belongs to the thread that made it."""

    def __init__(self, path: str, timeout: float, worker: WorkerRecord) -> None:
        self._path = path
        self._timeout = timeout
        self._worker = worker
        # A beat need not survive a loss of power: the worker does not either.
        self._connection = connect(path, "normal", timeout)

    def beat(self) -> None:
        """See `Heart.beat`."""
        worker = self._worker
        try:
            self._connection.execute(
                "INSERT INTO workers (id, host, pid, born, workflows, beat) VALUES (?, ?, ?, ?, ?, 1) "
                "ON CONFLICT (id) DO UPDATE SET beat = beat + 1",
                (worker.id, worker.host, worker.pid, worker.born, packed(worker.workflows)),
            )
        except Exception as error:
            raise explained(error, self._path, self._timeout) from error

    def close(self) -> None:
        """See `Heart.close`."""
        try:
            self._connection.execute("DELETE FROM workers WHERE id = ?", (self._worker.id,))
        finally:
            self._connection.close()
