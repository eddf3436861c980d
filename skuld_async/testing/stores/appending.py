"""What a store does with the appends of a run's owner, and of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError
from skuld_async.durable.records import Closing, Folded

from .samples import (
    AT,
    MANY,
    Handles,
    answer,
    claimed,
    deposit,
    event,
    found,
    owned,
    question,
    ready,
    whole,
    write,
    written,
)

if TYPE_CHECKING:
    from skuld_async.durable.records import Append
    from skuld_async.durable.store import Store


async def is_refused(store: Store, item: Append) -> bool:
    """Whether the store says that the lease is lost, and of which."""
    try:
        await store.append(item)
    except LeaseLostError as error:
        return error.args == (item.run, item.worker, item.token)
    return False


class Appending(Handles):
    """`Store.append`: the log, fencing, and repeated calls."""

    async def test_chunks_follow_one_another(self, store: Store) -> None:
        """Each append adds its chunk to the log, and one that has none adds none; each is counted."""
        record = await owned(store)
        for chunk in (b"a", None, b"", b"b"):
            record = await written(store, write(record, chunk=chunk))

        assert record == replace(await owned(store), appends=5)
        assert (record.updated, list((await store.load("run"))[0])) == (AT, [b"first", b"a", b"", b"b"])

    async def test_a_chunk_may_replace_the_log(self, store: Store) -> None:
        """A chunk that is the whole log takes the place of all that was written before."""
        record = await written(store, write(await owned(store)))
        record = await written(store, write(record, chunk=b"whole", replace=True))
        record = await written(store, write(record, chunk=b"more"))

        assert (record.appends, list((await store.load("run"))[0])) == (4, [b"whole", b"more"])

    async def test_the_same_append_twice_does_nothing(self, store: Store, other: Store) -> None:
        """An append that comes again (worker, token, number) is written once, with all that it brings."""
        record = await owned(store)
        record = await written(store, write(record, opens=(question(), question(id="0/2"))))
        await store.answer(answer())
        item = write(
            record,
            events=(event(1), event(2)),
            closes=(Closing("0/1", answered=True), Closing("0/2", answered=False)),
            opens=(question(id="0/3"),),
            folded=(Folded(1),),
        )
        await store.append(item)
        before = await whole(store)
        await store.append(item)
        await other.append(item)

        assert await whole(store) == before

    @pytest.mark.parametrize("status", ["suspended", "needs_attention", "completed"])
    async def test_the_same_append_after_it_gave_the_lease_back(self, store: Store, status: str) -> None:
        """The owner that could not see that its last append had succeeded sees it when it asks again."""
        record = await owned(store)
        item = write(record, status=status, release=True, wake=None, chunk=b"whole", replace=True)
        await store.append(item)
        before = await whole(store)
        await store.append(item)
        assert await is_refused(store, replace(item, worker="w2"))

        assert await whole(store) == before

    async def test_the_same_append_after_another_worker_took_the_run(self, store: Store, other: Store) -> None:
        """The last append is recognised whoever has the run by now; once there is another one, the lease is lost."""
        item = write(await owned(store), release=True, wake=0.0)
        await store.append(item)
        [taken] = await claimed(other)
        before = await whole(store)

        assert not await is_refused(store, item)
        assert await whole(store) == before
        await other.append(write(taken))
        assert await is_refused(store, item)

    async def test_the_number_of_an_append_of_another_lease(self, store: Store) -> None:
        """What the owner before wrote last, or what the run began with, is no append of the worker that has it now."""
        first = await owned(store)
        assert await is_refused(store, write(first, number=1))
        await store.append(write(first))
        [taken] = await claimed(store, dead=["w1"])

        assert await is_refused(store, write(taken, number=2))
        assert list((await store.load("run"))[0]) == [b"first", b"next"]

    async def test_the_same_append_at_the_same_time(self, store: Store, other: Store) -> None:
        """An append that is sent twice at once is written once, and both callers see that it succeeded."""
        item = write(await owned(store), events=(event(1),))
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon((store, other)[number % 2].append, item)

        assert list((await store.load("run"))[0]) == [b"first", b"next"]
        assert list(await store.events("run", 0, MANY)) == [event(1)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"worker": "w2"},
            {"token": 0},
            {"token": 2},
            {"number": 4},
            {"run": "unknown"},
        ],
        ids=str,
    )
    async def test_an_append_of_another_lease_is_refused(self, store: Store, changes: dict[str, Any]) -> None:
        """Another worker, another token, a number that does not follow, or no run: nothing is written at all."""
        record = await written(store, write(await owned(store), opens=(question(), question(id="0/2"))))
        await store.answer(answer())
        before = await whole(store)
        item = write(
            record,
            chunk=b"whole",
            replace=True,
            status="completed",
            result=b"1",
            release=True,
            opens=(question(id="0/3"),),
            closes=(Closing("0/1", answered=True),),
            folded=(Folded(1),),
            events=(event(1),),
        )

        assert await is_refused(store, replace(item, **changes))
        assert await whole(store) == before
        assert await store.wait("run", "0/3") is None

    async def test_the_owner_before_can_write_nothing(self, store: Store, other: Store) -> None:
        """Once another worker has taken the run, its owner before is refused, and the new one is not."""
        before = await owned(store)
        [taken] = await claimed(other, dead=["w1"])

        assert await is_refused(store, write(before, chunk=b"late"))
        assert await is_refused(store, write(before, chunk=b"late", number=3))
        await other.append(write(taken, chunk=b"mine"))
        assert await is_refused(store, write(before, chunk=b"late", number=3))
        assert list((await store.load("run"))[0]) == [b"first", b"mine"]

    async def test_a_worker_that_took_it_again_has_another_lease(self, store: Store) -> None:
        """A worker that gave a run back and took it again can not write under the token that it had before."""
        before = await owned(store)
        await store.append(write(before, release=True, wake=0.0))
        [taken] = await claimed(store, "w1")

        assert await is_refused(store, write(taken, token=before.token))
        assert not await is_refused(store, write(taken))

    async def test_without_an_owner_nobody_writes(self, store: Store) -> None:
        """A run that was given back, or that nobody has taken yet, has no lease that an append could name."""
        given_back = await owned(store)
        await store.append(write(given_back, status="suspended", release=True))
        never_taken = await ready(store, "fresh")

        assert await is_refused(store, write(given_back, number=3))
        assert await is_refused(store, write(never_taken, worker="w1"))

    async def test_each_append_fails_alone(self, store: Store) -> None:
        """Of appends to several runs at the same time, those that are refused do not hinder the others."""
        refused: list[str] = []

        async def append(item: Append) -> None:
            if await is_refused(store, item):
                refused.append(item.run)

        records = [await owned(store, f"run {number}") for number in range(12)]
        async with anyio.create_task_group() as group:
            for number, record in enumerate(records):
                group.start_soon(append, write(record, token=9 if number % 4 == 0 else 1))

        assert sorted(refused) == ["run 0", "run 4", "run 8"]
        appends = [(await found(store, record.id)).appends for record in records]
        assert appends == [1, 2, 2, 2] * 3

    async def test_events_are_kept_until_they_are_trimmed(self, store: Store) -> None:
        """Events are counted in the run, come back in their order, and go up to the offset that is given."""
        record = await written(store, write(await owned(store), events=(event(1), event(2))))
        assert record.events == len([event(1), event(2)])
        record = await written(store, write(record, events=(event(3), event(4)), trim=3))
        assert list(await store.events("run", 0, MANY)) == [event(4)]
        record = await written(store, write(record, trim=4))

        assert list(await store.events("run", 0, MANY)) == []
        assert record == replace(await owned(store), appends=4, events=4)

    async def test_what_is_over_is_forgotten_with_the_log(self, store: Store) -> None:
        """An append that replaces the log removes the old waits that are closed and messages that are dealt with."""
        asked = [question(id="0/1", opened=AT), question(id="0/2", opened=AT + 9), question(id="0/3", opened=AT)]
        record = await written(store, write(await owned(store), opens=tuple(asked)))
        for number, at in enumerate([AT, AT + 9, AT], 1):
            assert await store.deposit(deposit(name=f"name {number}", at=at)) == number
        closes, folded = (Closing("0/1", answered=False), Closing("0/2", answered=False)), (Folded(1), Folded(2))
        record = await written(store, write(record, closes=closes, folded=folded, seen=3))

        kept = await written(store, write(record, forget=AT + 5, seen=3))
        assert [message.number for message, _ in await store.messages("run")] == [1, 2, 3]
        await written(store, write(kept, replace=True, forget=AT + 5, folded=(Folded(3),), seen=3))

        assert [message.number for message, _ in await store.messages("run")] == [2, 3]
        gone = [await store.wait("run", wait) is None for wait in ("0/1", "0/2", "0/3")]
        assert gone == [True, False, False]

    async def test_progress_lets_the_recoveries_begin_again(self, store: Store) -> None:
        """An append with which a run got further sets its recoveries to 0; another one leaves them."""
        await owned(store)
        await claimed(store, "w2", dead=["w1"])
        [record] = await claimed(store, "w3", dead=["w2"])
        kept = await written(store, write(record, progress=False))
        reset = await written(store, write(kept))

        assert [one.recoveries for one in (record, kept, reset)] == [2, 2, 0]
