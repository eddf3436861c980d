"""Runs that nobody goes on with until somebody lets them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from skuld_async.durable.records import ENDED, PARKED, RunStatus

from .samples import AT, Handles, claimed, deposit, found, owned, ready, settled, suspended, whole, write

if TYPE_CHECKING:
    from skuld_async.durable.store import Store


class Parking(Handles):
    """`Store.requeue`, `Store.requeue_known`, `Store.cancel` of a run that is parked."""

    @pytest.mark.parametrize("status", PARKED)
    async def test_a_parked_run_is_let_go(self, store: Store, status: RunStatus) -> None:
        """It runs again as soon as somebody takes it, and nothing is left of why it was parked."""
        record = await settled(store, status)

        assert await store.requeue("run", AT + 30)
        assert await found(store) == replace(
            record, status="running", updated=AT + 30, wake=0.0, error=None, attention=None
        )
        assert not await store.requeue("run", AT + 31)
        assert [one.status for one in await claimed(store)] == ["running"]

    async def test_recoveries_are_counted_from_the_beginning(self, store: Store) -> None:
        """A run that killed its workers too often has as many attempts again."""
        await owned(store)
        [record] = await claimed(store, dead=["w1"])
        await store.append(write(record, status="dead", release=True, progress=False))
        assert (await found(store)).recoveries == 1
        await store.requeue("run", AT + 30)

        assert (await found(store)).recoveries == 0

    @pytest.mark.parametrize("status", ["running", "suspended", *ENDED])
    async def test_what_is_not_parked_stays(self, store: Store, status: RunStatus) -> None:
        """A run that runs, waits or has ended is none that could be let go, nor is one that is not there."""
        if status == "running":
            await owned(store)
        else:
            await settled(store, status)
        before = await whole(store)

        assert (await store.requeue("run", AT + 30), await store.requeue("unknown", AT + 30)) == (False, False)
        assert await whole(store) == before

    async def test_all_that_need_attention_for_one_reason(self, store: Store) -> None:
        """Those of the named workflows and the named reason are let go, and their number is given."""
        ids = ["a", "b", "another reason", "another workflow", "dead", "paused"]
        for run in ids[:2]:
            await settled(store, "needs_attention", run, attention="unknown_workflow")
        await settled(store, "needs_attention", ids[2])
        record = await owned(store, ids[3], workflow="refund")
        await store.append(write(record, status="needs_attention", attention="unknown_workflow", release=True))
        await settled(store, "dead", "dead", attention="unknown_workflow")
        await settled(store, "paused", "paused")

        assert await store.requeue_known("unknown_workflow", [], AT + 30) == 0
        assert [await store.requeue_known("unknown_workflow", ["order", "x"], AT + 30) for _ in range(2)] == [2, 0]
        records = [await found(store, run) for run in ids]
        assert [record.id for record in records if record.status == "running"] == ["a", "b"]
        assert [(one.wake, one.updated, one.attention, one.error) for one in records[:2]] == [
            (0.0, AT + 30, None, None)
        ] * 2

    @pytest.mark.parametrize("status", PARKED)
    async def test_a_cancel_lets_a_parked_run_go(self, store: Store, status: RunStatus) -> None:
        """It is taken again, for its cancel."""
        record = await settled(store, status)

        assert await store.cancel("run", "enough", "ann", AT + 30)
        assert await found(store) == replace(
            record, status="running", updated=AT + 30, wake=0.0, error=None, attention=None, inbox=1
        )

    @pytest.mark.parametrize("status", PARKED)
    async def test_no_other_message_lets_a_parked_run_go(self, store: Store, status: RunStatus) -> None:
        """What else is sent to it is kept for its owner, and nobody takes it for that."""
        record = await settled(store, status)
        assert await store.deposit(deposit()) == 1

        assert await found(store) == replace(record, inbox=1)
        assert await claimed(store) == []

    async def test_what_nobody_has_is_not_changed_by_the_release_of_others(self, store: Store) -> None:
        """To let one run go changes no other."""
        await settled(store, "dead", "a")
        before = [await suspended(store, "b"), await ready(store, "c"), await settled(store, "dead", "d")]
        await store.requeue("a", AT + 30)

        assert [await found(store, run) for run in ("b", "c", "d")] == before
