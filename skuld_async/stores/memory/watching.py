"""Listeners and hearts of a memory store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from msgspec.structs import replace

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection

    from skuld_async.durable.records import WorkerRecord


class MemoryListener:
    """Hears of changes in its event loop."""

    def __init__(self) -> None:
        self._changed: set[str] = set()
        self._told = anyio.Event()

    def tell(self, run: str) -> None:
        """A run has changed."""
        self._changed.add(run)
        self._told.set()

    async def changed(self, within: float) -> Collection[str]:
        """See `Listener.changed`."""
        with anyio.move_on_after(within):
            await self._told.wait()
        changed, self._changed, self._told = self._changed, set(), anyio.Event()
        return changed


class MemoryHeart:
    """Beats for one worker, in whichever thread."""

    def __init__(self, workers: dict[str, WorkerRecord], lock: threading.Lock, worker: WorkerRecord) -> None:
        self._workers = workers
        self._lock = lock
        self._worker = worker

    def beat(self) -> None:
        """See `Heart.beat`."""
        with self._lock:
            known = self._workers.get(self._worker.id, self._worker)
            self._workers[known.id] = replace(known, beat=known.beat + 1)

    def close(self) -> None:
        """See `Heart.close`."""
        with self._lock:
            self._workers.pop(self._worker.id, None)
