"""How runs find a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from msgspec.structs import replace

from .samples import (
    AT,
    Handles,
    claimed,
    deposit,
    found,
    owned,
    question,
    ready,
    settled,
    suspended,
    whole,
    write,
    written,
)

if TYPE_CHECKING:
    from skuld_async.durable.store import Store


class Claiming(Handles):
    """`Store.claim`, `Store.next_wake`."""

    async def test_a_run_that_is_due_is_taken(self, store: Store) -> None:
        """It gets the worker as its owner, the status running and the next token, and is no longer due."""
        record = await suspended(store, wake=AT + 5)
        [taken] = await claimed(store, now=AT + 9)

        assert taken == replace(record, status="running", updated=AT + 9, wake=None, owner="w2", token=2)
        assert await store.get("run") == taken
        assert (await claimed(store), await store.next_wake(["order"])) == ([], None)

    async def test_a_new_run_is_taken_as_it_is(self, store: Store) -> None:
        """One that was running is so since the same time; what it is taken from keeps its log."""
        record = await ready(store)
        [taken] = await claimed(store)

        assert taken == replace(record, wake=None, owner="w2", token=1)
        await store.append(write(taken))
        assert list((await store.load("run"))[0]) == [b"first", b"next"]

    @pytest.mark.parametrize(("wake", "ids"), [(None, []), (AT + 5.5, []), (AT + 5, ["run"]), (AT + 4, ["run"])])
    async def test_only_what_is_due_is_taken(self, store: Store, wake: float | None, ids: list[str]) -> None:
        """A run is due at its time and later, never before, and never where it has none."""
        await suspended(store, wake=wake)

        assert [one.id for one in await claimed(store, now=AT + 5)] == ids

    async def test_the_longest_due_first(self, store: Store) -> None:
        """Where there are more than are wanted, those are taken that have been due for longest."""
        for run, wake in (("c", 3.0), ("a", 1.0), ("e", 5.0), ("b", 2.0), ("d", 4.0)):
            await suspended(store, run, wake=AT + wake)

        assert await claimed(store, limit=0) == []
        assert [[one.id for one in await claimed(store, limit=2)] for _ in range(4)] == [
            ["a", "b"],
            ["c", "d"],
            ["e"],
            [],
        ]

    async def test_the_workflows_of_the_worker(self, store: Store) -> None:
        """Only runs of the workflows that are named are taken; or, instead, only those of all others."""
        for workflow in ("order", "refund", "other"):
            await ready(store, workflow, workflow=workflow)
            await owned(store, f"dead {workflow}", workflow=workflow)
        known: dict[str, Any] = {"workflows": ["order", "refund"], "dead": ["w1"]}

        assert await claimed(store, workflows=[], dead=["w1"]) == []
        others = await claimed(store, unknown=True, **known)
        assert sorted(one.id for one in others) == ["dead other", "other"]
        mine = await claimed(store, **known)
        assert sorted(one.id for one in mine) == ["dead order", "dead refund", "order", "refund"]

    async def test_unknown_without_workflows_takes_all(self, store: Store) -> None:
        """The runs of all workflows but none are all."""
        await ready(store)

        assert [one.id for one in await claimed(store, workflows=[], unknown=True)] == ["run"]

    async def test_the_runs_of_dead_workers(self, store: Store) -> None:
        """They are taken over, however they stand, and it is counted how often; those of others are not."""
        record = await owned(store)
        await owned(store, "lives", "w3")
        waiting = await written(store, write(await owned(store, "waits"), status="suspended"))
        taken = {one.id: one for one in await claimed(store, dead=["w1", "w9"])}

        assert taken == {
            "run": replace(record, owner="w2", token=2, recoveries=1),
            "waits": replace(waiting, status="running", updated=AT + 10, owner="w2", token=2, recoveries=1),
        }
        again = await claimed(store, "w3", dead=["w2"])
        assert sorted((one.id, one.token, one.recoveries) for one in again) == [("run", 3, 2), ("waits", 3, 2)]

    async def test_the_limit_counts_the_runs_of_the_dead(self, store: Store) -> None:
        """As many as are wanted are taken in all, due or of dead workers, and none is left out for ever."""
        for number in range(3):
            await owned(store, f"dead {number}")
            await ready(store, f"due {number}")
        calls = [await claimed(store, limit=2, dead=["w1"]) for _ in range(4)]

        assert [len(one) for one in calls] == [2, 2, 2, 0]
        assert {(one.id[:4], one.recoveries) for call in calls for one in call} == {("dead", 1), ("due ", 0)}

    async def test_what_nobody_can_take(self, store: Store) -> None:
        """What is owned, has ended, is parked, or waits for an answer alone is not taken."""
        await owned(store, "owned")
        for status in ("completed", "failed", "cancelled", "paused", "needs_attention", "dead", "suspended"):
            await settled(store, status, status)
        before = [await whole(store, "owned"), await whole(store, "dead")]

        assert (await claimed(store), await claimed(store, workflows=[], unknown=True)) == ([], [])
        assert [await whole(store, "owned"), await whole(store, "dead")] == before

    @pytest.mark.parametrize("dead", [(), ("w1",)], ids=["due", "of-the-dead"])
    async def test_no_two_callers_get_the_same_run(self, store: Store, other: Store, dead: tuple[str, ...]) -> None:
        """Of many workers that claim at once, on several handles, each run goes to exactly one."""
        taken: list[tuple[str, str]] = []
        ids = [f"run {number:02}" for number in range(30)]
        for run in ids:
            await (owned(store, run) if dead else ready(store, run))

        async def take(handle: Store, worker: str) -> None:
            while records := await claimed(handle, worker, limit=4, dead=dead):
                taken.extend((record.id, worker) for record in records)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(take, (store, other)[number % 2], f"worker {number}")

        assert sorted(run for run, _ in taken) == ids
        records = [await found(store, run) for run, _ in taken]
        assert [(record.owner, record.token) for record in records] == [
            (worker, 2 if dead else 1) for _, worker in taken
        ]

    async def test_when_the_next_run_is_due(self, store: Store) -> None:
        """The smallest time of the runs of these workflows that nobody has; none where there is no such time."""
        assert await store.next_wake(["order", "refund"]) is None
        await owned(store, "owned")
        await suspended(store, "never")
        assert await store.next_wake(["order", "refund"]) is None
        await suspended(store, "later", wake=AT + 6)
        await suspended(store, "sooner", wake=AT + 5)
        await ready(store, "now", workflow="refund")

        wakes = [await store.next_wake(names) for names in (["order"], ["refund"], ["order", "refund"], ["x"], [])]
        assert wakes == [AT + 5, 0.0, 0.0, None, None]
        await claimed(store, now=AT + 5)
        assert await store.next_wake(["order"]) == AT + 6

    async def test_a_message_makes_a_run_due(self, store: Store) -> None:
        """A suspended run with a time is due at once when something is sent to it, and not again after that."""
        await suspended(store, wake=AT + 100, opens=(question(),))
        await store.deposit(deposit())

        assert await store.next_wake(["order"]) == 0.0
        [taken] = await claimed(store)
        assert (await store.next_wake(["order"]), taken.wake) == (None, None)

    async def test_a_time_that_was_changed(self, store: Store) -> None:
        """A run that is taken and given back with another time is due at that, and no longer at the first."""
        await suspended(store, wake=AT + 5)
        [taken] = await claimed(store)
        await store.append(write(taken, status="suspended", release=True, wake=AT + 50))

        assert (await claimed(store), await store.next_wake(["order"])) == ([], AT + 50)
        assert [one.token for one in await claimed(store, now=AT + 50)] == [3]

    async def test_a_time_that_was_put_off(self, store: Store) -> None:
        """It hides no other run that is due by now, and is not due before the time that counts."""
        await suspended(store, "early", wake=AT)
        [taken] = await claimed(store)
        await store.append(write(taken, status="suspended", release=True, wake=AT + 50))
        await suspended(store, "other", wake=AT + 5)

        assert await store.next_wake(["order"]) == AT + 5
        assert [[one.id for one in await claimed(store)] for _ in range(2)] == [["other"], []]

    async def test_a_limit_leaves_the_rest_as_it_was(self, store: Store) -> None:
        """What a claim leaves is unchanged, and the next one takes it."""
        options: dict[str, Any] = {"limit": 1}
        first, second = await suspended(store, "a", wake=AT), await suspended(store, "b", wake=AT + 1)

        assert [one.id for one in await claimed(store, **options)] == [first.id]
        assert await found(store, "b") == second
        assert [one.id for one in await claimed(store, **options)] == [second.id]
