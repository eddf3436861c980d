"""SQLiteStore: its writer, many operations to a commit, and those who ask it."""

import asyncio
import sqlite3
import threading
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from skuld_async.durable.errors import LeaseLostError, StoreClosedError, StoreError
from skuld_async.durable.records import WorkerRecord
from skuld_async.stores.sqlite import SQLiteStore
from skuld_async.stores.sqlite.append import append
from skuld_async.testing.stores.samples import AT, deposit, found, new_run, owned, write

from .sqlite_parts import appends, held, together, traced, writer_of


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def test_a_step_is_two_statements_and_a_commit(path: Path) -> None:
    """The lease is checked and moved on by one statement, and the chunk is added by another one."""
    async with SQLiteStore(path) as store:
        record = await owned(store)
        statements = await traced(store)
        await store.append(write(record))
    assert statements[:4] == ["BEGIN IMMEDIATE", "UPDATE runs SET", "INSERT INTO chunks", "COMMIT"]


async def test_many_appends_share_a_commit(path: Path) -> None:
    """What fifty runs append while the writer is busy is in one commit, of far fewer statements than appends."""
    async with SQLiteStore(path) as store:
        records = [await owned(store, f"run {number}") for number in range(50)]
        statements = await traced(store)
        assert await together(store, *appends(store, *map(write, records))) == [None] * 50
        assert statements == [
            *("BEGIN IMMEDIATE", "COMMIT"),  # of what held the writer
            *("BEGIN IMMEDIATE", *["UPDATE runs SET", "INSERT INTO chunks"] * 3, "COMMIT"),
        ]
        for record in records:
            assert (await store.load(record.id))[0] == [b"first", b"next"]


async def test_a_refused_append_is_refused_alone(path: Path) -> None:
    """Where one run of a batch has another owner, the others are written, and nothing of it is."""
    async with SQLiteStore(path) as store:
        records = [await owned(store, f"run {number}") for number in range(30)]
        [taken] = await store.claim("w2", now=AT, limit=1, workflows=["order"], dead=["w1"])
        outcomes = await together(store, *appends(store, *map(write, records)))
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [LeaseLostError]
        for record, outcome in zip(records, outcomes, strict=True):
            assert (outcome is None) == (record.id != taken.id)
            assert len((await store.load(record.id))[0]) == (2 if outcome is None else 1)
        assert await found(store, taken.id) == taken


async def test_two_appends_of_one_run_in_a_batch(path: Path) -> None:
    """They are written one after the other; the second one does not find its lease lost."""
    async with SQLiteStore(path) as store:
        record = await owned(store)
        with held(store):
            first = writer_of(store).do(append, write(record))
            second = writer_of(store).do(append, write(record, number=3, chunk=b"third"))
        await first
        await second
        assert (await store.load("run"))[0] == [b"first", b"next", b"third"]


@pytest.mark.parametrize(
    "change", [{"chunk": "text that is no bytes", "number": 2**70}, {"at": object(), "status": "suspended"}]
)
async def test_a_failure_in_a_batch_fails_alone(path: Path, change: dict[str, Any]) -> None:
    """What the database refuses fails by itself; all else in its batch is written, each thing once."""
    async with SQLiteStore(path) as store:
        first, second, third = [await owned(store, f"run {number}") for number in range(3)]
        outcomes = await together(
            store,
            *appends(store, write(first), write(second, **change), write(third)),
            lambda: store.create(new_run("new"), None),
            lambda: store.deposit(deposit(first.id)),
        )
        assert [outcomes[0], outcomes[2], outcomes[4]] == [None, None, 1]
        assert isinstance(outcomes[1], (OverflowError, sqlite3.Error, LeaseLostError))
        assert outcomes[3] == await found(store, "new")
        assert [len((await store.load(record.id))[0]) for record in (first, second, third)] == [2, 1, 2]
        assert len(await store.messages(first.id)) == 1


async def test_a_key_that_is_used_again(path: Path) -> None:
    """A run that another process deleted is gone, also for a store that knows its key, which another run has now."""
    async with SQLiteStore(path) as store, SQLiteStore(path) as other:
        record = await owned(store, "old")
        await other.append(write(record, status="completed", release=True))
        assert await other.delete("old") == "deleted"
        await owned(other, "new")
        with pytest.raises(LeaseLostError):
            await store.append(write(record))
        assert (await store.load("new"))[0] == [b"first"]


async def test_a_cancelled_caller_has_appended(path: Path) -> None:
    """What was asked for is done, whether or not somebody still waits for it; the same append again is accepted."""
    async with SQLiteStore(path) as store:
        item = write(await owned(store))
        async with anyio.create_task_group() as group:
            with held(store):
                group.start_soon(store.append, item)
                while not writer_of(store)._queue.qsize():
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        await store.append(item)
        assert (await store.load("run"))[0] == [b"first", b"next"]


async def test_leaving_waits_for_what_was_asked(path: Path) -> None:
    """Operations that are queued when a store is left are done; then its threads have ended."""
    async with SQLiteStore(path) as store:
        record = await owned(store)
        threads = store._threads
        for number in range(2, 102):
            writer_of(store).do(append, write(record, number=number))
    for thread in threads or ():
        thread._thread.join(10)
        assert not thread._thread.is_alive()
    async with SQLiteStore(path) as again:
        assert (await found(again)).appends == 101


def test_the_threads_end_with_their_loop(path: Path) -> None:
    """A store whose loop is torn down while it is left loses nothing, and its threads end."""
    store = SQLiteStore(path)
    threads: list[threading.Thread] = []

    async def main() -> None:
        async with store:
            assert store._threads is not None
            threads.extend(thread._thread for thread in store._threads)
            record = await owned(store)
            writer_of(store).do(append, write(record))
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()

    async def count() -> int:
        async with SQLiteStore(path) as again:
            return (await found(again)).appends

    assert asyncio.run(count()) == 2


async def test_another_event_loop(path: Path) -> None:
    """A store may be used from the loop of another thread as well; each caller is woken in its own."""
    async with SQLiteStore(path) as store:

        async def elsewhere() -> None:
            await owned(store, "other")

        for backend in ("asyncio", "trio"):
            await anyio.to_thread.run_sync(partial(anyio.run, elsewhere, backend=backend))
            assert (await found(store, "other")).owner == "w1"
            await store.append(write(await found(store, "other"), status="completed", release=True))
            await store.delete("other")


async def test_outside_of_async_with(path: Path) -> None:
    """A store that was not entered, or was left, says so; and it is entered once."""
    store = SQLiteStore(path)
    worker = WorkerRecord("w1", "host", 1, "", ())
    for _ in range(2):
        with pytest.raises(StoreClosedError, match="async with"):
            await store.get("run")
        with pytest.raises(StoreClosedError):
            await store.expire(AT, 1)
        with pytest.raises(StoreClosedError):
            store.heart(worker)
        with pytest.raises(StoreClosedError):
            async with store.listen():
                pass
        if not path.exists():
            async with store:
                pass
    with pytest.raises(StoreError, match="entered once"):
        await store.__aenter__()
