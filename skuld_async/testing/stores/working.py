"""Workers: their hearts beat into the store, and the dead are found there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio.to_thread
from msgspec.structs import replace

from skuld_async.durable.records import WorkerRecord

from .samples import Handles, claimed, owned, write

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from skuld_async.durable.store import Store

W1 = WorkerRecord(id="w1", host="here/boot/1", pid=123, born="Mon 10:00", workflows=("order", "refund"))


class Beating:
    """The heart of a worker, in a thread of its own."""

    def __init__(self, store: Store, worker: WorkerRecord, thread: ThreadPoolExecutor) -> None:
        self._thread = thread
        self._heart = thread.submit(store.heart, worker).result(10)

    async def beat(self, times: int = 1) -> None:
        """Beat."""
        for _ in range(times):
            await self._do(self._heart.beat)

    async def close(self) -> None:
        """Stop."""
        await self._do(self._heart.close)

    async def _do(self, call: Callable[[], None]) -> None:
        await anyio.to_thread.run_sync(self._thread.submit(call).result, 10)


@contextmanager
def beating(store: Store, *workers: WorkerRecord) -> Generator[list[Beating]]:
    """The hearts of workers; they are not closed: a worker that is killed closes nothing."""
    threads = [ThreadPoolExecutor(1) for _ in workers]
    try:
        yield [Beating(store, worker, thread) for worker, thread in zip(workers, threads, strict=True)]
    finally:
        for thread in threads:
            thread.shutdown()


async def beats(store: Store) -> dict[str, int]:
    """How often each worker that is known has beaten."""
    return {worker.id: worker.beat for worker in await store.workers()}


class Working(Handles):
    """`Store.heart`, `Store.workers`, `Store.bury`."""

    async def test_a_heart_beats(self, store: Store, other: Store) -> None:
        """With its first beat a worker is known to all, with all that it says of itself; each one more is counted."""
        assert list(await store.workers()) == []
        with beating(store, W1, replace(W1, id="w2", workflows=(), pid=0)) as [one, two]:
            await one.beat()
            [first] = await other.workers()
            await one.beat(3)
            await two.beat()
            known = {worker.id: worker for worker in await store.workers()}
            await one.close()
            await two.close()

        assert replace(first, beat=0) == W1
        assert known["w1"] == replace(W1, beat=first.beat + 3)
        assert replace(known["w2"], beat=0) == replace(W1, id="w2", workflows=(), pid=0)

    async def test_a_heart_is_closed(self, store: Store) -> None:
        """The worker is forgotten then, and no other one is."""
        with beating(store, W1, replace(W1, id="w2")) as [one, two]:
            await one.beat()
            await two.beat()
            await one.close()
            left = await beats(store)
            await two.close()

        assert (list(left), await beats(store)) == (["w2"], {})

    async def test_a_worker_that_owns_runs_is_not_forgotten(self, store: Store) -> None:
        """One that is gone, and still owns runs, is listed without a beat, until its runs are taken over."""
        with beating(store, W1) as [heart]:
            await heart.beat()
            await owned(store)
            await owned(store, "another")
            assert list(await beats(store)) == ["w1"]
            await heart.close()

        assert await beats(store) == {"w1": 0}
        await claimed(store, "w2", dead=["w1"], limit=1)
        assert await beats(store) == {"w1": 0, "w2": 0}
        [record] = await claimed(store, "w2", dead=["w1"])
        assert await beats(store) == {"w2": 0}
        await store.append(write(record, status="suspended", release=True))
        await store.delete(record.id)
        assert await beats(store) == {"w2": 0}

    async def test_the_dead_are_buried(self, store: Store) -> None:
        """Those that are named and own nothing are forgotten; others stay."""
        with beating(store, W1, replace(W1, id="w2"), replace(W1, id="w3")) as hearts:
            for heart in hearts:
                await heart.beat()
            await owned(store, worker="w3")
            await store.bury(["w1", "w3", "w9"])
            left = {worker.id: worker for worker in await store.workers()}
            await store.bury([])
            for heart in hearts:
                await heart.close()

        assert sorted(left) == ["w2", "w3"]
        assert replace(left["w3"], beat=0) == replace(W1, id="w3")

    async def test_a_worker_that_was_buried_comes_back(self, store: Store) -> None:
        """One that was forgotten while it lived is known again with its next beat."""
        with beating(store, W1) as [heart]:
            await heart.beat()
            await store.bury(["w1"])
            assert await beats(store) == {}
            await heart.beat()
            [worker] = await store.workers()
            await heart.close()

        assert replace(worker, beat=0) == W1

    async def test_a_heart_beats_while_the_store_works(self, store: Store) -> None:
        """Beats and appends do not hinder one another."""
        record = await owned(store)
        with beating(store, W1) as [heart]:
            await heart.beat()
            async with anyio.create_task_group() as group:
                group.start_soon(heart.beat, 20)
                for number in range(20):
                    await store.append(write(record, number=number + 2))
            [worker] = await store.workers()
            await heart.close()

        assert worker.beat >= len(range(20))
        assert len((await store.load("run"))[0]) == len(range(21))
