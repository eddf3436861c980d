"""Runs and events, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from skuld_async.durable.records import RunFilter

from .samples import AT, MANY, Handles, event, owned, ready, settled, write, written

if TYPE_CHECKING:
    from skuld_async.durable.records import RunRecord
    from skuld_async.durable.store import Store


class Listing(Handles):
    """`Store.runs`, `Store.events`."""

    async def test_runs_are_read_page_by_page(self, store: Store) -> None:
        """The newest come first, by time and then id, backwards; each page goes on behind the last one seen."""
        expected = [
            await ready(store, f"{name} {number}", at=AT + number % 3)
            for number, name in enumerate(["b", "a", "B", "a b", "é", "Z", "ß", "0"])
        ]
        expected.sort(key=lambda run: (run.created, run.id), reverse=True)

        for limit in (1, 3, MANY):
            assert await _pages(store, limit) == expected
        assert list(await store.runs(RunFilter(), None, 0)) == []

    async def test_a_page_goes_on_where_the_last_one_seen_is_gone(self, store: Store) -> None:
        """The place in the list is a time and an id: the run there may be removed meanwhile."""
        for number in range(4):
            await settled(store, "completed", f"run {number}")
        last = (await store.runs(RunFilter(), None, 2))[-1]
        await store.delete(last.id)

        rest = await store.runs(RunFilter(), (last.created, last.id), MANY)
        assert [run.id for run in rest] == ["run 1", "run 0"]

    @pytest.mark.parametrize(
        ("only", "ids"),
        [
            (RunFilter(), ["a", "b", "c", "d"]),
            (RunFilter(workflow="refund"), ["b", "d"]),
            (RunFilter(workflow="ref"), []),
            (RunFilter(statuses=("running",)), ["a", "b"]),
            (RunFilter(statuses=("completed", "paused")), ["c", "d"]),
            (RunFilter(statuses=("dead",)), []),
            (RunFilter(tag="red"), ["b", "c"]),
            (RunFilter(tag="re"), []),
            (RunFilter(tag="r%"), []),
            (RunFilter(workflow="refund", statuses=("running", "paused"), tag="red"), ["b"]),
        ],
        ids=str,
    )
    async def test_runs_are_filtered(self, store: Store, only: RunFilter, ids: list[str]) -> None:
        """Each field of a filter leaves only the runs that have its value; several, those that have all."""
        await owned(store, "a", tags=("blue",), at=AT + 4)
        await ready(store, "b", workflow="refund", tags=("small", "red"), at=AT + 3)
        record = await owned(store, "c", tags=("red", "big"), at=AT + 2)
        await store.append(write(record, status="completed", result=b"1", release=True))
        await ready(store, "d", workflow="refund", tags=(), paused=True, at=AT + 1)

        assert [run.id for run in await store.runs(only, None, MANY)] == ids

    async def test_a_run_that_is_listed_is_the_run(self, store: Store) -> None:
        """The list gives whole records, as they are now."""
        record = await written(store, write(await owned(store), events=(event(1),), status="suspended"))

        assert list(await store.runs(RunFilter(tag="blue"), None, MANY)) == [record]

    async def test_events_are_read_page_by_page(self, store: Store) -> None:
        """Those behind an offset, in their order, as many as are wanted, and only of that run."""
        record = await written(store, write(await owned(store), events=tuple(map(event, range(1, 4)))))
        await store.append(write(record, events=tuple(map(event, range(4, 8)))))
        await store.append(write(await owned(store, "another"), events=(event(1),)))

        pages = [[one.offset for one in await store.events("run", after, 3)] for after in (0, 3, 5, 6, 7, 99)]
        assert pages == [[1, 2, 3], [4, 5, 6], [6, 7], [7], [], []]
        assert list(await store.events("run", 6, MANY)) == [event(7)]


async def _pages(store: Store, limit: int) -> list[RunRecord]:
    """All runs, read in pages of *limit*."""
    runs: list[RunRecord] = []
    after: Any = None
    while page := await store.runs(RunFilter(), after, limit):
        assert len(page) <= limit
        runs += page
        after = (page[-1].created, page[-1].id)
    return runs
