"""What a store does when the status of a run changes, and when its owner gives it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from skuld_async.durable.records import ENDED, PARKED, RunStatus

from .samples import AT, Handles, answer, claimed, deposit, owned, question, settled, whole, write, written

if TYPE_CHECKING:
    from skuld_async.durable.store import Store


class Releasing(Handles):
    """`Store.append`: the status, the lease that is given back, and when the run is due."""

    @pytest.mark.parametrize("status", ["suspended", *ENDED, *PARKED[1:]])
    async def test_a_status_is_kept_with_the_time_and_the_reason(self, store: Store, status: RunStatus) -> None:
        """The status of an append is the run's, with its result, error and attention, and since when."""
        record = await owned(store)
        after = await written(
            store, write(record, status=status, result=b"1", error=b"{}", attention="why", release=True, at=AT + 7)
        )

        assert after == replace(
            record,
            status=status,
            updated=AT + 7,
            owner=None,
            appends=2,
            result=b"1",
            error=b"{}",
            attention="why",
        )

    async def test_without_a_status_nothing_of_it_changes(self, store: Store) -> None:
        """An append that names no status leaves the run as it stands, and the time since when it does."""
        record = await written(store, write(await owned(store), status="suspended", error=b"{}"))
        after = await written(store, write(record, at=AT + 9))

        assert after == replace(record, appends=3)
        assert (after.status, after.error) == ("suspended", b"{}")

    async def test_the_status_that_it_has_changes_no_time(self, store: Store) -> None:
        """``updated`` says when the status last changed: to write the same one again does not."""
        record = await written(store, write(await owned(store), status="running", at=AT + 9))

        assert (record.status, record.updated) == ("running", AT)

    @pytest.mark.parametrize("wake", [None, 0.0, AT + 20])
    async def test_a_lease_that_is_given_back(self, store: Store, wake: float | None) -> None:
        """Nobody has the run then; it is due at the time that its owner named, or never."""
        record = await written(store, write(await owned(store), status="suspended", release=True, wake=wake))

        assert (record.owner, record.token, record.wake) == (None, 1, wake)
        assert await store.next_wake(["order"]) == wake

    async def test_a_lease_that_is_kept(self, store: Store) -> None:
        """Without a release the run keeps its owner, and is not due, whatever is sent to it."""
        record = await written(store, write(await owned(store), status="suspended", opens=(question(),)))
        await store.answer(answer())
        after = await written(store, write(record))

        assert (after.owner, after.wake) == ("w1", None)
        assert await claimed(store) == []

    async def test_a_status_of_suspended_that_a_message_overtook(self, store: Store) -> None:
        """A run with messages beyond the last that its owner has seen is not suspended, but runs, as it did."""
        record = await owned(store)
        await store.deposit(deposit())
        overtaken = await written(store, write(record, status="suspended", at=AT + 9))
        settled = await written(store, write(overtaken, status="suspended", at=AT + 10, seen=1))

        assert overtaken == replace(record, appends=2, inbox=1)
        assert settled == replace(overtaken, appends=3, status="suspended", updated=AT + 10)

    @pytest.mark.parametrize("wake", [None, AT + 20])
    async def test_a_message_that_came_between(self, store: Store, wake: float | None) -> None:
        """A run that is given back with messages beyond the last that its owner has seen is due at once."""
        record = await owned(store)
        await store.deposit(deposit())
        await store.deposit(deposit(body=b"2"))
        record = await written(store, write(record, status="suspended", release=True, wake=wake, seen=1))

        assert (record.owner, record.status, record.wake) == (None, "running", 0.0)
        assert [one.id for one in await claimed(store)] == ["run"]

    @pytest.mark.parametrize("wake", [None, AT + 20])
    async def test_the_messages_that_its_owner_has_seen(self, store: Store, wake: float | None) -> None:
        """A run whose messages have all been seen is due when its owner said, folded in or not."""
        record = await owned(store)
        await store.deposit(deposit())
        record = await written(store, write(record, status="suspended", release=True, wake=wake, seen=1))

        assert record.wake == wake

    @pytest.mark.parametrize("status", [*ENDED, "needs_attention", "dead"])
    async def test_a_message_that_came_before_the_end(self, store: Store, status: RunStatus) -> None:
        """A message makes only those ready that run or are suspended: one that ends, or is parked, stays so."""
        record = await owned(store)
        await store.deposit(deposit())
        record = await written(store, write(record, status=status, release=True))

        assert (record.status, record.wake, await store.next_wake(["order"])) == (status, None, None)
        assert await claimed(store) == []

    @pytest.mark.parametrize("status", ENDED)
    async def test_the_end_closes_all_questions(self, store: Store, status: RunStatus) -> None:
        """A status that ends the run closes each of its questions, answered or not, and no other run's."""
        record = await written(store, write(await owned(store), opens=(question(), question(id="0/2"))))
        await store.append(write(await owned(store, "another"), opens=(question("another"),)))
        await store.answer(answer())
        await store.append(write(record, status=status, release=True))

        after = await whole(store)
        assert ([wait and wait.state for wait in after.waits], after.open) == (["closed", "closed"], [])
        assert [await store.answer(answer(wait=wait)) for wait in ("0/1", "0/2")] == ["repeated", "closed"]
        assert await store.answer(answer("another")) == "accepted"

    @pytest.mark.parametrize("status", ["suspended", "needs_attention", "dead"])
    async def test_no_other_status_closes_a_question(self, store: Store, status: RunStatus) -> None:
        """The questions of a run that may go on stay open."""
        await settled(store, status, opens=(question(),))

        assert (await whole(store)).open == [question()]
