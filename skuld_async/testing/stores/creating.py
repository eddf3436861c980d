"""What a store does with new runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from msgspec.structs import replace

from skuld_async.durable.errors import StoreClosedError
from skuld_async.durable.records import RunFilter, RunRecord

from .samples import AT, MANY, Handles, claimed, found, new_run, owned, ready, whole, write, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from skuld_async.durable.store import Store

NEW = RunRecord(
    id="run",
    workflow="order",
    version="1",
    arguments=b'{"number":1}',
    tags=("blue", "small"),
    status="running",
    created=AT,
    updated=AT,
    appends=1,
)


class Creating(Handles):
    """`Store.create`, `Store.get`, `Store.load`, and the life of a handle."""

    async def test_a_run_that_a_worker_starts_is_its_own(self, store: Store) -> None:
        """It is owned by that worker with token 1, its log has one append, and nobody else can take it."""
        record = await store.create(new_run(), "w1")

        assert record == replace(NEW, owner="w1", token=1)
        assert await store.get("run") == record
        assert [list(part) for part in await store.load("run")] == [[b"first"], []]
        assert await claimed(store) == []

    async def test_a_run_that_nobody_has_is_ready(self, store: Store) -> None:
        """Without a worker it is owned by nobody, with token 0, and ready to be taken."""
        record = await store.create(new_run(), None)

        assert record == replace(NEW, wake=0.0)
        assert await store.get("run") == record
        assert [one.id for one in await claimed(store, now=0.0)] == ["run"]

    @pytest.mark.parametrize("worker", [None, "w1"])
    async def test_a_paused_run_is_neither_owned_nor_ready(self, store: Store, worker: str | None) -> None:
        """One that is started paused belongs to nobody, whoever starts it, and nobody can take it."""
        record = await store.create(new_run(paused=True), worker)

        assert record == replace(NEW, status="paused")
        assert await store.get("run") == record
        assert (await claimed(store), await store.next_wake(["order"])) == ([], None)

    async def test_the_fields_that_may_be_empty(self, store: Store) -> None:
        """No version, no tags, an empty chunk, no arguments: they come back as they are."""
        record = await store.create(new_run(version=None, tags=(), arguments=b"", chunk=b""), "w1")

        assert record == replace(NEW, version=None, tags=(), arguments=b"", owner="w1", token=1)
        assert await store.get("run") == record
        assert list((await store.load("run"))[0]) == [b""]

    @pytest.mark.parametrize("worker", [None, "w1", "w2"])
    async def test_the_same_id_again_is_the_same_run(self, store: Store, other: Store, worker: str | None) -> None:
        """A second one of an id changes nothing, whatever it says, and gives the first one."""
        record = await store.create(new_run(), "w1")
        before = await whole(store)
        again = new_run(workflow="other", version="2", arguments=b"[]", tags=("red",), chunk=b"other", at=AT + 9)

        assert await other.create(again, worker) == record
        assert await store.create(replace(again, paused=True), worker) == record
        assert await whole(store) == before

    async def test_the_same_id_later_gives_the_run_as_it_is(self, store: Store, other: Store) -> None:
        """A second one of an id that has got further gives what has become of it."""
        record = await owned(store)
        record = await written(store, write(record, status="completed", result=b"1", release=True))

        assert await other.create(new_run(), "w2") == record

    async def test_of_many_callers_one_starts_it(self, store: Store, other: Store) -> None:
        """Of many who start the same run at once, one owns it, and all are given the same run."""
        given: list[RunRecord] = []

        async def start(handle: Store, worker: str) -> None:
            given.append(await handle.create(new_run(), worker))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(start, (store, other)[number % 2], f"w{number}")

        assert given == [await found(store)] * 8
        assert (given[0].token, given[0].appends) == (1, 1)
        assert list((await store.load("run"))[0]) == [b"first"]

    async def test_what_is_not_there(self, store: Store) -> None:
        """Of a run that nobody started there is no record, no log, no message, no event and no question."""
        await owned(store, "another")

        assert tuple(await whole(store)) == (None, [], [], [], [], [], [], [None, None])

    async def test_one_handle_sees_what_another_has_written(self, store: Store, other: Store) -> None:
        """A method that returns has committed: each other handle sees it."""
        record = await owned(store)
        assert await other.get("run") == record
        await other.append(write(record))
        assert list((await store.load("run"))[0]) == [b"first", b"next"]

    async def test_what_was_written_outlives_the_handle(self, connect: Callable[[], Store]) -> None:
        """What is in the store when it is left is there when it is entered again; that changes nothing."""
        async with connect() as store:
            record = await owned(store)
            await store.append(write(record, events=()))
            await ready(store, "another", at=AT + 1)
            before = [await whole(store), await whole(store, "another")]
        async with connect() as store:
            assert [await whole(store), await whole(store, "another")] == before
            assert [one.id for one in await store.runs(RunFilter(), None, MANY)] == ["another", "run"]

    async def test_a_store_is_used_while_it_is_open(self, connect: Callable[[], Store]) -> None:
        """Before it is entered, and after it was left, its methods say that it is not open."""
        store = connect()
        with pytest.raises(StoreClosedError, match="is not open"):
            await store.get("run")
        async with store:
            assert await store.get("run") is None
        with pytest.raises(StoreClosedError, match="is not open"):
            await store.create(new_run(), None)
