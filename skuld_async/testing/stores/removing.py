"""Runs that are removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError
from skuld_async.durable.records import ENDED, RunFilter, WaitFilter

from .samples import (
    AT,
    MANY,
    Handles,
    answer,
    claimed,
    deposit,
    event,
    new_run,
    owned,
    question,
    ready,
    settled,
    suspended,
    whole,
    write,
)

if TYPE_CHECKING:
    from skuld_async.durable.store import Store


class Removing(Handles):
    """`Store.delete`, `Store.expire`."""

    async def test_a_run_goes_with_all_that_belongs_to_it(self, store: Store, other: Store) -> None:
        """Its log, questions, messages and events go too, and nobody can take it; other runs stay."""
        for run in ("run", "another"):
            await suspended(store, run, wake=AT, opens=(question(run), question(run, "0/2")), events=(event(1),))
            await store.answer(answer(run))
            await store.deposit(deposit(run))
        before = await whole(store, "another")

        assert [await store.delete("run"), await store.delete("run")] == ["deleted", "unknown"]
        assert tuple(await whole(other)) == (None, [], [], [], [], [], [], [None, None])
        assert await store.answer(answer(wait="0/2")) == "unknown"
        assert [one.id for one in await store.runs(RunFilter(), None, MANY)] == ["another"]
        assert [one.run for one in await store.waits(WaitFilter(), None, MANY)] == ["another"]
        assert await whole(store, "another") == before
        assert [one.id for one in await claimed(store)] == ["another"]

    async def test_a_run_that_somebody_has_is_not_removed(self, store: Store) -> None:
        """A run that has an owner stays as it is."""
        record = await owned(store)
        before = await whole(store)

        assert await store.delete("run") == "owned"
        assert await whole(store) == before
        await store.append(write(record))

    async def test_its_id_may_be_used_again(self, store: Store) -> None:
        """A run that is started under the id of one that was removed begins anew."""
        await suspended(store, opens=(question(),), events=(event(1),), chunk=b"old")
        await store.answer(answer())
        await store.delete("run")
        record = await store.create(new_run(workflow="refund", at=AT + 50), "w1")

        assert record == replace(record, token=1, appends=1, inbox=0, events=0, recoveries=0, created=AT + 50)
        assert tuple(await whole(store))[1:] == ([b"first"], [], [], [], [], [], [None, None])
        await store.append(write(record, opens=(question(opened=AT + 51),), events=(event(1),)))
        assert await store.answer(answer()) == "accepted"

    async def test_its_id_may_be_used_for_another_workflow(self, store: Store) -> None:
        """Only those take it then who know that one."""
        await ready(store)
        await store.delete("run")
        record = await ready(store, workflow="refund")

        assert (await claimed(store), await store.next_wake(["order"])) == ([], None)
        assert [one.created for one in await claimed(store, workflows=["refund"])] == [record.created]

    async def test_an_append_to_a_run_that_was_removed(self, store: Store) -> None:
        """Whoever had it is told that the lease is lost."""
        record = await owned(store)
        await store.append(write(record, status="suspended", release=True))
        await store.delete("run")
        refused = False
        try:
            await store.append(write(record, number=3))
        except LeaseLostError:
            refused = True

        assert (refused, await store.get("run")) == (True, None)

    async def test_runs_that_ended_long_ago(self, store: Store) -> None:
        """Those that ended before that time are removed with all that belongs to them; no others are."""
        for number, status in enumerate(ENDED):
            await settled(store, status, f"{status} early", at=AT + number, opens=(question(f"{status} early"),))
            await settled(store, status, f"{status} late", at=AT + 5)
        for status in ("paused", "needs_attention", "dead", "suspended"):
            await settled(store, status, status)
        await owned(store, "owned")
        await ready(store, "ready")

        assert await store.expire(AT + 5, MANY) == len(ENDED)
        left = sorted(one.id for one in await store.runs(RunFilter(), None, MANY))
        assert left == sorted(
            [
                *(f"{status} late" for status in ENDED),
                "paused",
                "needs_attention",
                "dead",
                "suspended",
                "owned",
                "ready",
            ]
        )
        assert tuple(await whole(store, "failed early")) == (None, [], [], [], [], [], [], [None, None])

    async def test_as_many_as_are_wanted_are_removed(self, store: Store) -> None:
        """A limit leaves the rest for the next call."""
        for number in range(5):
            await settled(store, "completed", f"run {number}")

        assert [await store.expire(AT + 5, 2) for _ in range(4)] == [2, 2, 1, 0]
