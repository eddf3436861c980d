"""Heartbeat: tells the other workers that this one lives, for as long as its event loop turns.

The rules:

1. The beats come from a thread with a connection of its own: a busy loop or a busy store does not hold them back.
2. A thread outlives a loop that hangs. So a task of the loop leaves a sign of life, and without a recent one the thread
   does not beat: others then take the runs over. When the loop turns again, so do the beats.
3. Times are those of the monotonic clock.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from .liveness import LOOKS

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import TaskGroup

    from .records import WorkerRecord
    from .store import Heart, Store

_logger = logging.getLogger("skuld_async.runtime")


class Heartbeat:
    """Beats for a worker while it is entered; an async context manager, entered once.

    Once it is entered, the first beat is in the store: nobody sees runs of this worker and thinks it dead. A beat that
    fails is logged and tried again with the next one.

    Args:
        store: Where the others look.
        worker: Who beats.
        lease: After how many seconds without a beat the others take it for dead. It beats four times in that time, and
            no longer once the loop has hung for half of it.

    Raises:
        Exception: The first beat failed again and again, for the time of a lease: what the last attempt raised.
    """

    def __init__(self, store: Store, worker: WorkerRecord, lease: float) -> None:
        self._store = store
        self._worker = worker
        self._lease = lease
        self._ticked = self._until = 0.0
        self._hangs = False
        self._stop = threading.Event()
        self._begun = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._live, name=f"skuld_async heart {worker.id}", daemon=True)
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._ticked = time.monotonic()
        self._until = self._ticked + self._lease
        self._tasks = await anyio.create_task_group().__aenter__()
        self._tasks.start_soon(self._tick)
        self._thread.start()
        try:
            await anyio.to_thread.run_sync(self._begun.wait, abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1))
        except BaseException:
            await self._end()
            raise
        if self._failure is not None:
            await self._end()
            raise self._failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _tick(self) -> None:
        while True:
            self._ticked = time.monotonic()
            await anyio.sleep(self._lease / LOOKS / 2)

    async def _end(self) -> None:
        self._stop.set()
        self._begun.set()  # nobody waits for it any more
        try:
            with anyio.CancelScope(shield=True):
                # A limiter of its own: the common one may be taken up by calls that wait for this end.
                await anyio.to_thread.run_sync(self._thread.join, self._lease, limiter=anyio.CapacityLimiter(1))
            if self._thread.is_alive():
                _logger.warning("the heart of worker %s hangs in its store, and is left there", self._worker.id)
        finally:
            # The group is not told of an error in the body: it would wrap it.
            assert self._tasks is not None
            self._tasks.cancel_scope.shield = True
            self._tasks.cancel_scope.cancel()
            await self._tasks.__aexit__(None, None, None)

    # -- in the thread -----------------------------------------------------------------------------------------------

    def _live(self) -> None:
        heart: Heart | None = None
        while not self._stop.is_set():
            if self._turns():
                heart = self._beat(heart)
            self._stop.wait(self._lease / LOOKS)
        if heart is not None:
            try:
                heart.close()
            except Exception:
                _logger.warning("the heart of worker %s could not be closed", self._worker.id, exc_info=True)

    def _turns(self) -> bool:
        """Whether the event loop was seen to turn lately."""
        hangs = time.monotonic() - self._ticked > self._lease / 2
        if hangs != self._hangs:
            told = "hangs: its heart stands still" if hangs else "turns again: its heart goes on"
            _logger.warning("the event loop of worker %s %s", self._worker.id, told)
        self._hangs = hangs
        return not hangs

    def _beat(self, heart: Heart | None) -> Heart | None:
        try:
            heart = heart or self._store.heart(self._worker)
            heart.beat()
        except Exception as error:
            _logger.warning("a heartbeat of worker %s failed", self._worker.id, exc_info=True)
            if not self._begun.is_set() and time.monotonic() >= self._until:
                self._failure = error
                self._begun.set()
                self._stop.set()
        else:
            self._begun.set()
        return heart
