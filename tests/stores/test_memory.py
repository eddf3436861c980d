"""What is particular to `MemoryStore`."""

import threading

import anyio
import anyio.to_thread
import pytest

from skuld_async.durable.errors import StoreClosedError
from skuld_async.durable.records import RunFilter, WorkerRecord
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing.stores.samples import AT, MANY, claimed, event, owned, question, ready, suspended, whole, write


async def test_several_may_share_it() -> None:
    """Each runtime enters it for itself; it is open until the last of them has left it, and keeps its runs."""
    store = MemoryStore()
    async with store:
        async with store:
            await owned(store)
        assert await store.get("run") is not None
    with pytest.raises(StoreClosedError, match=r"MemoryStore\(1 runs\) is not open"):
        await store.get("run")
    async with store:
        assert [run.id for run in await claimed(store, dead=["w1"])] == ["run"]


async def test_what_it_gave_stays_as_it_was() -> None:
    """What was read once shows a moment: later writes do not change it, and nobody can write into the store by it."""
    async with MemoryStore() as store:
        record = await owned(store)
        await store.append(write(record, opens=(question(),), events=(event(1),)))
        before = await whole(store)
        given = (await store.load("run"), await store.messages("run"), await store.events("run", 0, MANY))
        await store.append(write(record, number=3, status="completed", result=b"1", trim=1, release=True))

        assert (before.record, before.chunks, before.events) != await _now(store)
        assert before.open == [question()]
        assert given == ((tuple(before.chunks), ()), (), (event(1),))


async def _now(store: MemoryStore) -> tuple[object, ...]:
    after = await whole(store)
    return after.record, after.chunks, after.events


async def test_hearts_beat_in_many_threads() -> None:
    """No beat is lost, whoever beats and reads at the same time."""
    async with MemoryStore() as store:
        worker = WorkerRecord(id="w1", host="here", pid=1, born="today", workflows=())
        begin = threading.Barrier(4)

        def beat() -> None:
            heart = store.heart(worker)
            begin.wait(10)
            for _ in range(2000):
                heart.beat()

        async with anyio.create_task_group() as group:
            for _ in range(4):
                group.start_soon(anyio.to_thread.run_sync, beat)
            seen = [worker.beat for _ in range(200) for worker in await store.workers()]

        assert seen == sorted(seen)
        assert [worker.beat for worker in await store.workers()] == [8000]


async def test_a_call_that_is_cancelled_has_done_nothing() -> None:
    """Its only checkpoint comes before what it does: after that it is not interrupted."""
    async with MemoryStore() as store:
        record = await owned(store)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await store.append(write(record))

        assert scope.cancelled_caught
        assert await store.get("run") == record


async def test_a_claim_looks_only_at_what_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs wait for another time, or for ever, a claim looks at the first of them at most."""
    async with MemoryStore() as store:
        for number in range(200):
            await suspended(store, f"later {number}", wake=AT + 1000 + number)
            await suspended(store, f"never {number}")
        await ready(store)
        looked: list[str] = []
        counts = store._due._counts

        def count(workflow: str, wake: float, run: str) -> bool:
            looked.append(run)
            return counts(workflow, wake, run)

        monkeypatch.setattr(store._due, "_counts", count)

        assert [run.id for run in await claimed(store)] == ["run"]
        assert looked == ["run", "run", "later 0"]
        assert len(await store.runs(RunFilter(), None, MANY)) == 401
