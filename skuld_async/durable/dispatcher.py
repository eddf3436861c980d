"""The dispatcher: takes the runs that are ready, and lets a driver move each in a task of its own.

What makes a run ready is in its row: a time that has come, a message, a release, or the death of the worker that had
it. So there is nothing to remember here, and as many workers as one likes may look.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING

import anyio

from .driver import Driver
from .errors import LeaseLostError, UnknownWorkflowError
from .liveness import LOOKS, Census
from .parking import UNKNOWN_WORKFLOW, parking
from .records import RunFilter

if TYPE_CHECKING:
    from anyio.abc import TaskGroup, TaskStatus

    from skuld_async.log.log import Log

    from .driver import Means
    from .notices import Notices
    from .records import RunRecord, WorkerRecord

logger = logging.getLogger("skuld_async.runtime")

PAUSE = 0.02
"""Seconds between two looks at a store in which others write all the time."""

BATCH = 100
"""Runs that are taken at once, at most."""


class Dispatcher:
    """Moves the runs of one worker.

    Args:
        means: What its drivers need.
        worker: Who takes the runs.
        notices: Who wants to know what happens to them.
        lease: After how many seconds without a beat another worker is dead.
        concurrency: How many runs may be in memory.
    """

    def __init__(self, means: Means, worker: WorkerRecord, notices: Notices, *, lease: float, concurrency: int) -> None:
        self.active: dict[str, Driver] = {}
        """The runs that this worker has, by id."""
        self.starting: dict[str, anyio.Lock] = {}
        """The runs that are being started, by id."""
        self._doubts = 0
        """How often the store has failed where it gives runs to this worker, since these were last looked for."""
        self._means = means
        self._worker = worker
        self._notices = notices
        self._lease = lease
        self._concurrency = concurrency
        self._bell = anyio.Event()
        self._planned = -math.inf
        """When there will be something to take, if nobody rings before: by the clock of the runs."""
        self._dead: frozenset[str] = frozenset()
        self._known: frozenset[str] = frozenset(worker.workflows)
        """The workflows that some live worker knows."""
        self._group: TaskGroup | None = None

    @property
    def has_room(self) -> bool:
        """Whether there is room in memory for one more run."""
        return len(self.active) < self._concurrency

    def ring(self) -> None:
        """Look again: there may be something to take."""
        self._bell.set()

    @property
    def is_in_doubt(self) -> bool:
        """Whether this worker may have runs that it does not know of: the store may have done what seemed to fail."""
        return self._doubts > 0

    def doubt(self) -> None:
        """The store has failed where it gives runs to this worker: look for those that it has."""
        self._doubts += 1
        self.ring()

    def message_for(self, run: str) -> None:
        """A message was sent to *run*."""
        driver = self.active.get(run)
        if driver is None:
            self.ring()
        else:
            driver.has_mail()

    def drive(self, record: RunRecord, fresh: Log | None = None) -> None:
        """Move the run of *record*, which this worker owns."""
        assert self._group is not None
        driver = self.active[record.id] = Driver(self._means, record, self._notices, fresh)
        self._group.start_soon(self._drive, driver)

    async def _drive(self, driver: Driver) -> None:
        run = driver.record.id
        try:
            await driver.run()
        except Exception as error:
            logger.exception("run %s cannot be moved", run)
            await self._give_up(driver.record, error)
        finally:
            if self.active.get(run) is driver:  # else it was given back, and taken again already
                del self.active[run]
            self._notices.told(run)
            is_due = driver.wake is not None and driver.wake < self._planned
            if is_due or driver.missed_mail or len(self.active) == self._concurrency - 1:
                self.ring()

    async def _give_up(self, known: RunRecord, error: Exception) -> None:
        """Park a run whose driver has failed, if it still belongs to this worker."""
        try:
            record = await self._means.store.get(known.id)
            if record is not None and (record.owner, record.token) == (known.owner, known.token):
                parked = parking(record, "needs_attention", "error", error, self._means.clock)
                await self._means.store.append(parked)
        except Exception:
            self.doubt()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Take what is ready, until it is cancelled."""
        async with anyio.create_task_group() as self._group:
            task_status.started()
            self._group.start_soon(self._listen)
            self._group.start_soon(self._look_after_workers)
            while True:
                self._bell = bell = anyio.Event()
                try:
                    wait = await self._take()
                except Exception as error:
                    logger.error("no runs can be taken, trying again: %r", error)  # noqa: TRY400
                    self._doubts += 1
                    wait = 1.0
                with anyio.move_on_after(None if wait == math.inf else wait):
                    await bell.wait()

    async def _take(self) -> float:
        """Take the runs that are ready; gives for how many seconds there will be none, if nobody rings."""
        means, clock = self._means, self._means.clock
        if self.is_in_doubt:
            await self._adopt()
        room = self._concurrency - len(self.active)
        if room <= 0:
            for driver in self.active.values():
                driver.leave()  # those that only wait make room
            return math.inf
        found = await means.store.claim(
            means.worker,
            now=clock.seconds(),
            limit=min(room, BATCH),
            workflows=means.workflows.names,
            dead=self._dead,
        )
        for record in found:
            self._claimed(record)
        if found:
            return 0.0
        due = await means.store.next_wake(means.workflows.names)
        self._planned = math.inf if due is None else due
        return math.inf if due is None else max(0.0, clock.seconds_until(due, self.ring))

    async def _adopt(self) -> None:
        """Move the runs that this worker has without knowing it."""
        store, place, moving = self._means.store, None, RunFilter(statuses=("running",))
        doubts, has_seen_all = self._doubts, True
        while found := await store.runs(moving, place, BATCH):
            place = (found[-1].created, found[-1].id)
            for run in [one.id for one in found if one.owner == self._worker.id]:
                record = await store.get(run)
                if run in self.starting:
                    has_seen_all = False
                elif record is not None and record.owner == self._worker.id and run not in self.active:
                    self.drive(record)
        if has_seen_all and doubts == self._doubts:
            self._doubts = 0

    def _claimed(self, record: RunRecord) -> None:
        if record.recoveries:
            logger.warning("run %s was taken over: its worker died (%d in a row)", record.id, record.recoveries)
        self.drive(record)

    async def _listen(self) -> None:
        """Hear what others write."""
        while True:
            try:
                async with self._means.store.listen() as listener:
                    while True:
                        changed = await listener.changed(self._lease)
                        self._notices.told_all(changed)
                        if changed is None or changed:
                            await self._look_for_mail()
                            self.ring()
                            await anyio.sleep(PAUSE)
            except Exception as error:
                logger.error("the store cannot be listened to, trying again: %r", error)  # noqa: TRY400
                await anyio.sleep(1)

    async def _look_for_mail(self) -> None:
        if self.active:
            for run, number in await self._means.store.mail(self._means.worker):
                driver = self.active.get(run)
                if driver is not None:
                    driver.has_mail(number)

    # -- the other workers -------------------------------------------------------------------------------------------

    async def _look_after_workers(self) -> None:
        store, census = self._means.store, Census(self._worker, self._lease)
        while True:
            try:
                looked = time.monotonic()
                workers = await store.workers()
                self._dead = census.dead(workers, looked)
                if self._dead:
                    self.ring()
                    await store.bury(self._dead)
                alive = [one for one in workers if one.id not in self._dead]
                self._known = frozenset(self._worker.workflows).union(*(one.workflows for one in alive))
                await self._park_unknown()
            except Exception as error:
                logger.error("the other workers cannot be looked after, trying again: %r", error)  # noqa: TRY400
                self.doubt()
            await anyio.sleep(self._lease / (LOOKS + 1))

    async def _park_unknown(self) -> None:
        """Park the runs that nobody who lives can go on with."""
        means = self._means
        found = await means.store.claim(
            means.worker,
            now=means.clock.seconds(),
            limit=BATCH,
            workflows=self._known,
            dead=self._dead,
            unknown=True,
        )
        for record in found:
            error = UnknownWorkflowError(record.workflow, sorted(self._known))
            try:
                await means.store.append(parking(record, "needs_attention", UNKNOWN_WORKFLOW, error, means.clock))
            except LeaseLostError:
                continue
            logger.error("run %s needs attention: %s", record.id, error)
            self._notices.told(record.id)
