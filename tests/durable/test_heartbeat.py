"""Heartbeat: a worker is seen to live while its event loop turns, and no longer."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import cast

import anyio
import anyio.to_thread
import pytest

from skuld_async.durable.heartbeat import Heartbeat
from skuld_async.durable.liveness import this_worker
from skuld_async.durable.records import WorkerRecord
from skuld_async.durable.store import Heart, Store

LEASE = 0.8
WORKER = this_worker([])


class _Hearts:
    """Stands for a store of which only the hearts are used; notes what they do, and fails as it is told."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.beats: list[float] = []
        self.made = self.attempts = self.closed = 0
        self.threads: set[int] = set()
        self.before_beat: Callable[[], object] = lambda: None
        self.before_close: Callable[[], object] = lambda: None

    @property
    def store(self) -> Store:
        return cast("Store", self)

    def heart(self, worker: WorkerRecord) -> Heart:
        self.made += 1
        self.threads.add(threading.get_ident())
        return _Heart(self)

    async def until(self, fact: Callable[[], bool]) -> None:
        def wait() -> None:
            with self.changed:
                assert self.changed.wait_for(fact, 20)

        await anyio.to_thread.run_sync(wait, limiter=anyio.CapacityLimiter(1))

    async def beat(self, times: int) -> None:
        goal = len(self.beats) + times
        await self.until(lambda: len(self.beats) >= goal)


class _Heart:
    def __init__(self, hearts: _Hearts) -> None:
        self._hearts = hearts

    def beat(self) -> None:
        with self._hearts.changed:
            self._hearts.threads.add(threading.get_ident())
            self._hearts.attempts += 1
            self._hearts.changed.notify_all()
        self._hearts.before_beat()
        with self._hearts.changed:
            self._hearts.beats.append(time.monotonic())
            self._hearts.changed.notify_all()

    def close(self) -> None:
        with self._hearts.changed:
            self._hearts.threads.add(threading.get_ident())
            self._hearts.closed += 1
            self._hearts.changed.notify_all()
        self._hearts.before_close()


def _fail() -> None:
    raise OSError("no store")


async def test_it_beats_from_the_first_moment_to_the_last() -> None:
    """The first beat is there when it is entered, others follow, and its worker is removed when it is left.

    Heart and beats are all in one thread, which is not that of the event loop.
    """
    hearts = _Hearts()
    async with Heartbeat(hearts.store, WORKER, LEASE):
        assert len(hearts.beats) == 1
        await hearts.beat(3)
        assert hearts.closed == 0
    beats = len(hearts.beats)
    assert (hearts.made, hearts.closed, len(hearts.threads)) == (1, 1, 1)
    assert threading.get_ident() not in hearts.threads
    assert not any(thread.ident in hearts.threads for thread in threading.enumerate())
    assert len(hearts.beats) == beats


async def test_a_loop_that_hangs_stops_the_beats(caplog: pytest.LogCaptureFixture) -> None:
    """They stop when the loop has hung for half a lease, go on when it turns again, and both are logged once."""
    hearts = _Hearts()
    async with Heartbeat(hearts.store, WORKER, LEASE):
        await hearts.beat(1)
        begin = time.monotonic()
        time.sleep(3 * LEASE)  # noqa: ASYNC251 - this is the mistake
        end = time.monotonic()
        hung = [beat - begin for beat in hearts.beats if begin + 0.75 * LEASE < beat < end]
        assert hung == []
        await hearts.beat(2)
    assert [record.message.split(WORKER.id)[1] for record in caplog.records] == [
        " hangs: its heart stands still",
        " turns again: its heart goes on",
    ]
    assert {record.name for record in caplog.records} == {"skuld_async.runtime"}


async def test_a_busy_pool_of_threads_does_not_matter() -> None:
    """Calls that take up all threads of the loop hold back neither beats nor entry nor exit."""
    hearts, done, ended = _Hearts(), threading.Event(), list[bool]()
    tokens = int(anyio.to_thread.current_default_thread_limiter().total_tokens)
    async with anyio.create_task_group() as calls:
        for _ in range(tokens + 1):
            calls.start_soon(anyio.to_thread.run_sync, lambda: ended.append(done.wait(20)))
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(10):
                async with Heartbeat(hearts.store, WORKER, LEASE):
                    await hearts.beat(2)
            assert hearts.closed == 1
            assert ended == []
        finally:
            done.set()


async def test_a_beat_that_fails_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """With the same heart: one that would be closed would be a worker that is gone."""
    hearts = _Hearts()
    async with Heartbeat(hearts.store, WORKER, LEASE):
        hearts.before_beat = _fail
        await hearts.until(lambda: hearts.attempts == 4)
        assert hearts.closed == 0
        hearts.before_beat = lambda: None
        await hearts.beat(1)
    assert hearts.made == 1
    assert {record.message for record in caplog.records} == {f"a heartbeat of worker {WORKER.id} failed"}
    assert {(record.name, record.levelno) for record in caplog.records} == {("skuld_async.runtime", logging.WARNING)}
    assert all(record.exc_info and isinstance(record.exc_info[1], OSError) for record in caplog.records)


async def test_a_first_beat_may_fail_for_a_lease() -> None:
    """Entering waits for a store that comes back, and raises what one that does not come back raises."""
    hearts = _Hearts()
    hearts.before_beat = lambda: _fail() if hearts.attempts < 3 else None
    async with Heartbeat(hearts.store, WORKER, LEASE):
        assert (hearts.attempts, len(hearts.beats)) == (3, 1)
    hearts.before_beat = _fail
    with pytest.raises(OSError, match="no store"):
        await Heartbeat(hearts.store, WORKER, LEASE).__aenter__()
    assert hearts.made == hearts.closed == 2


async def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    """No group is wrapped around it; neither a heart that cannot be closed nor a cancel of all this hides it."""
    hearts = _Hearts()
    hearts.before_close = _fail
    with pytest.raises(LookupError, match="mine"):
        async with Heartbeat(hearts.store, WORKER, LEASE):
            raise LookupError("mine")
    assert hearts.closed == 1

    scope = anyio.CancelScope()

    async def fail_cancelled() -> None:
        with scope:
            async with Heartbeat(hearts.store, WORKER, LEASE):
                scope.cancel()
                raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await fail_cancelled()
    assert hearts.closed == 2


async def test_it_can_be_cancelled_inside_and_while_it_is_entered() -> None:
    """A cancel from outside ends body or entry, and the heart with it; nobody waits for a store that hangs."""
    hearts = _Hearts()
    with anyio.move_on_after(0.1) as body:
        async with Heartbeat(hearts.store, WORKER, LEASE):
            await anyio.sleep_forever()
    assert body.cancelled_caught
    assert hearts.closed == 1

    hangs = threading.Event()
    hearts.before_beat = lambda: hangs.wait(20)
    with anyio.move_on_after(0.1) as entry:
        await Heartbeat(hearts.store, WORKER, 0.2).__aenter__()
    assert entry.cancelled_caught
    assert hearts.closed == 1
    hangs.set()
    await hearts.until(lambda: hearts.closed == 2)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_asyncio_cancels_leaves_no_thread() -> None:
    """A cancel of the task itself, which no scope shields from, ends body and heart."""
    hearts, entered = _Hearts(), asyncio.Event()

    async def body() -> None:
        async with Heartbeat(hearts.store, WORKER, LEASE):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await hearts.until(lambda: hearts.closed == 1)


async def test_many_hearts_beat_side_by_side() -> None:
    """Fifty workers in one loop each have their beats, and all are gone in the end."""
    every = [_Hearts() for _ in range(50)]

    async def live(hearts: _Hearts) -> None:
        async with Heartbeat(hearts.store, this_worker([]), LEASE):
            await hearts.beat(3)

    async with anyio.create_task_group() as group:
        for hearts in every:
            group.start_soon(live, hearts)
    assert all(hearts.closed == 1 for hearts in every)
    assert not any(thread.name.startswith("skuld_async heart") for thread in threading.enumerate())
